select relation, as_of
from raw.extracted
where run_id = :extraction_id and account = :account
