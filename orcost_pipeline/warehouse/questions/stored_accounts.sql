with keys as (
    select account_id, count(*) as keys, count(*) filter (where deleted_at is null) as active
    from core.api_key
    group by account_id
), days as (
    select account_id, min(day) as first_day, max(day) as last_day
    from core.account_day
    group by account_id
), spend as (
    select account_id, trim_scale(sum(credits_usd)) as credits_usd, trim_scale(sum(byok_usd)) as byok_usd
    from core.company_day
    group by account_id
)
select a.account, a.kind, a.status, coalesce(k.keys, 0) as keys, coalesce(k.active, 0) as living_keys,
    d.first_day, d.last_day, a.as_of, a.credits_total_usd, a.credits_used_usd,
    coalesce(s.credits_usd, 0) as spent_usd, coalesce(s.byok_usd, 0) as byok_usd
from ref.account a
left join keys k using (account_id)
left join days d using (account_id)
left join spend s using (account_id)
order by a.account
