select hour, name, credits_usd, byok_usd
from raw.unkeyed_hour
where run_id = :extraction_id and account = :account and hour >= :start and hour < :end
