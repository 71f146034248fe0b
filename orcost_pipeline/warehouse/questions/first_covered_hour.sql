select min(start_at) as hour
from raw.usage_question
where run_id = :extraction_id and account = :account and grain = 'hour' and outcome = 'covered'
