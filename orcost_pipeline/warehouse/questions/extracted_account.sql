select is_management_key, organization_id, credits_total_usd, credits_used_usd
from raw.account
where account = :account and run_id = :extraction_id
