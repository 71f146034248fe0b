select start_at, end_at
from raw.usage_question
where run_id = :extraction_id and account = :account and grain = 'hour' and outcome = 'full'
order by start_at
