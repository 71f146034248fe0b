select relation, as_of
from raw.extracted
where run_id = :run_id and account = :account
