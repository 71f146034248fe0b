select *
from raw.usage_hourly
where run_id = :extraction_id and account = :account and hour >= :start and hour < :end
