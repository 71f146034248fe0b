-- The rows of marts.key_review, with exact amounts.

-- Disabled and expired keys get no advice. shared_name counts only keys that are not deleted.
create or replace view core.key_review as
with spend as (
    select account_id, key_id, sum(credits_usd) as credits_usd
    from core.key_rolling
    where period = '30d'
    group by account_id, key_id
), reviewed as (
    select k.account, k.key_hash, k.name as key_name, k.company, k.created_at,
        greatest(0, floor(extract(epoch from a.as_of - k.created_at) / 86400))::integer as age_days,
        k.last_used_at,
        greatest(
            0, floor(extract(epoch from a.as_of - coalesce(k.last_used_at, k.created_at)) / 86400)
        )::integer as idle_days,
        k.limit_usd, k.limit_used_percent, coalesce(s.credits_usd, 0) as credits_30d_usd, k.expires_at,
        count(*) over (partition by k.account, k.name) as bearers,
        k.is_disabled or coalesce(k.expires_at <= a.as_of, false) as is_off, a.as_of
    from ref.api_key k
    join ref.account a using (account)
    join core.api_key i on i.account_id = a.account_id and i.key_hash = k.key_hash
    left join spend s on s.account_id = a.account_id and s.key_id = i.key_id
    where k.deleted_at is null
)
select r.account, r.key_hash, r.key_name, r.company, r.created_at,
    case when r.created_at is not null then r.age_days end as age_days, r.last_used_at,
    case when coalesce(r.last_used_at, r.created_at) is not null then r.idle_days end as idle_days,
    r.limit_usd, r.limit_used_percent, r.credits_30d_usd,
    case when r.is_off then '{}' else array_remove(
        array[
            case when r.limit_usd is null then 'no_limit' end,
            case when r.idle_days between 30 and 89 then 'unused_30_days' end,
            case when r.idle_days >= 90 then 'unused_90_days' end,
            case when r.age_days > 365 then 'older_than_365_days' end,
            case when r.limit_used_percent >= t.key_limit_percent and r.limit_used_percent < 100 then 'limit_near' end,
            case when r.limit_used_percent >= 100 then 'limit_reached' end,
            case when r.expires_at <= r.as_of + interval '14 days' then 'expires_soon' end,
            case when r.bearers > 1 then 'shared_name' end
        ],
        null
    ) end as advice,
    r.expires_at, r.as_of
from reviewed r
cross join ref.threshold t;
