-- One row per API key and instant with a reading of its counters: now, and at the start of the UTC day, week and month.
-- New readings replace old ones at the same instant; unchanged readings are dropped.
create temporary table staged_counter_point on commit drop as
with listed as (
    select k.key_id, k.created_at, r.counters_day, r.usage_usd, r.usage_daily_usd, r.usage_weekly_usd,
        r.usage_monthly_usd, r.byok_usage_usd, r.byok_usage_daily_usd, r.byok_usage_weekly_usd,
        r.byok_usage_monthly_usd, r.counters_day::timestamp as midnight
    from raw.api_key r
    join core.api_key k on k.account_id = :account_id and k.key_hash = r.key_hash
    where r.run_id = :extraction_id and r.account = :account and not r.is_deleted
), reading as (
    select key_id, :as_of ::timestamptz as at, usage_usd, byok_usage_usd, 4 as rank
    from listed
    union all
    select key_id, midnight at time zone 'UTC', usage_usd - usage_daily_usd, byok_usage_usd - byok_usage_daily_usd, 1
    from listed
    union all
    select key_id, date_trunc('week', midnight) at time zone 'UTC', usage_usd - usage_weekly_usd,
        byok_usage_usd - byok_usage_weekly_usd, 2
    from listed
    union all
    select key_id, date_trunc('month', midnight) at time zone 'UTC', usage_usd - usage_monthly_usd,
        byok_usage_usd - byok_usage_monthly_usd, 3
    from listed
    union all
    select key_id, created_at, 0, 0, 5
    from listed
    union all
    select key_id, at, usage_usd, byok_usage_usd, 6
    from core.counter_point
    where account_id = :account_id
), known as (
    select distinct on (key_id, at) key_id, at, usage_usd, byok_usage_usd
    from reading
    where at >= (select counted_from from ref.account where account_id = :account_id) and at <= :as_of
        -- A counter that could not be read has no reading; the next one contains its usage.
        and usage_usd is not null and byok_usage_usd is not null
    order by key_id, at, rank
), changed as (
    select key_id, at, usage_usd, byok_usage_usd,
        lag((usage_usd, byok_usage_usd)) over (partition by key_id order by at) as before
    from known
), followed as (
    select *, lead(at) over (partition by key_id order by at) as next_at
    from changed
    where before is distinct from (usage_usd, byok_usage_usd)
)
select :account_id ::integer as account_id, key_id, at, usage_usd, byok_usage_usd
from followed
where coalesce(next_at > :counters_horizon, true)
