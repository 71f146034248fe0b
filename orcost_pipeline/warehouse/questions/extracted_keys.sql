select key_hash, name, coalesce(label, '') as label, created_at, last_used_at, usage_usd, byok_usage_usd, counters_day
from raw.api_key
where account = :account and run_id = :extraction_id and not is_deleted
