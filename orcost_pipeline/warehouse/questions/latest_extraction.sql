select run_id
from raw.extracted
where account = :account and relation = :relation
order by run_id = :extraction_id desc, as_of desc
limit 1
