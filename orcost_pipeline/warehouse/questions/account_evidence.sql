select account_id, organization_id, credits_total_usd, credits_used_usd, published_run_id,
    confirmed_at is not null as is_confirmed, rebuild_at is not null as is_rebuild_requested
from ref.account
where account = :account and as_of is not null
