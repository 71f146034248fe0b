-- One row per API key of the account, as listed now; a deleted key, and one with unreadable fields, keeps its last
-- values.
create temporary table staged_api_key on commit drop as
select
    :account_id ::integer as account_id,
    r.key_hash,
    coalesce(r.created_at, k.created_at) as created_at,
    coalesce(k.first_seen_at, :as_of) as first_seen_at,
    coalesce(r.last_used_at, k.last_used_at) as last_used_at,
    case when r.is_deleted then coalesce(k.deleted_at, :as_of) end as deleted_at,
    case when r.is_deleted then k.limit_remaining_usd else r.limit_remaining_usd end as limit_remaining_usd,
    coalesce(r.usage_usd, k.usage_usd, 0) as usage_usd,
    coalesce(r.usage_daily_usd, k.usage_daily_usd, 0) as usage_daily_usd,
    coalesce(r.usage_weekly_usd, k.usage_weekly_usd, 0) as usage_weekly_usd,
    coalesce(r.usage_monthly_usd, k.usage_monthly_usd, 0) as usage_monthly_usd,
    coalesce(r.byok_usage_usd, k.byok_usage_usd, 0) as byok_usage_usd,
    coalesce(r.byok_usage_daily_usd, k.byok_usage_daily_usd, 0) as byok_usage_daily_usd,
    coalesce(r.byok_usage_weekly_usd, k.byok_usage_weekly_usd, 0) as byok_usage_weekly_usd,
    coalesce(r.byok_usage_monthly_usd, k.byok_usage_monthly_usd, 0) as byok_usage_monthly_usd
from raw.api_key r
left join core.api_key k on k.account_id = :account_id and k.key_hash = r.key_hash
where r.run_id = :extraction_id and r.account = :account
