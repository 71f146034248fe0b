select version, loaded_at, source, content_sha256, row_count
from ref.price_plan_version
order by version desc
limit 1
