select key_hash, start_at, end_at, outcome
from raw.usage_question
where run_id = :extraction_id and account = :account and grain = 'hour' and start_at >= :start and end_at <= :end
order by start_at, key_hash
