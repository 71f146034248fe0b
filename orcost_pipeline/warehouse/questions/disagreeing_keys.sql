with hours as (
    select u.account_id, u.key_id, sum(u.requests) as requests, sum(u.credits_usd) as credits_usd,
        sum(u.byok_usd) as byok_usd
    from core.usage_hourly u
    where u.hour >= (cast(:day as date))::timestamp at time zone 'UTC'
        and u.hour < (cast(:day as date) + 1)::timestamp at time zone 'UTC'
    group by 1, 2
), days as (
    select account_id, key_id, sum(requests) as requests, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
    from core.usage_daily
    where day = :day
    group by 1, 2
)
select a.account, k.key_hash, v.name as key_name, coalesce(h.credits_usd, 0) as hours_credits_usd,
    coalesce(d.credits_usd, 0) as day_credits_usd, coalesce(h.byok_usd, 0) as hours_byok_usd,
    coalesce(d.byok_usd, 0) as day_byok_usd
from hours h
full join days d using (account_id, key_id)
join ref.account a using (account_id)
left join core.account_day w on w.account_id = a.account_id and w.day = :day
-- The residual is the rest of the account's day, and carries the rounding of all its requests.
cross join lateral (
    select case when key_id = 0 then w.requests else greatest(h.requests, d.requests) end as requests
) rounded
left join core.api_key k using (key_id)
left join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
where (cast(:account as text) is null or a.account = :account)
    and not (core.agrees(h.credits_usd, d.credits_usd, rounded.requests, a.tolerance_usd)
        and core.agrees(h.byok_usd, d.byok_usd, rounded.requests, a.tolerance_usd))
order by a.account, abs(coalesce(h.credits_usd, 0) - coalesce(d.credits_usd, 0)) desc, k.key_hash
