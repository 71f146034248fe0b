-- Days settled in this run whose stored usage is not what the account answered, beyond tolerance and rounding.
with reported as (
    select r.day, sum(r.requests) as requests, sum(r.credits_usd) as credits_usd, sum(r.byok_usd) as byok_usd
    from (
        select run_id, account, key_hash, day, requests, credits_usd, byok_usd from raw.activity_daily
        union all
        select run_id, account, key_hash, day, requests, credits_usd, byok_usd from raw.usage_daily
    ) r
    where r.run_id = :extraction_id and r.account = :account and r.key_hash is null
    group by r.day
), stored as (
    select u.day, sum(u.requests) as requests, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from core.usage_daily u
    where u.account_id = :account_id
    group by u.day
)
select d.day, t.credits_usd as reported_usd, s.credits_usd as stored_usd
from built_day d
left join reported t using (day)
left join stored s using (day)
where d.is_settled
    and (coalesce(t.requests, 0) <> coalesce(s.requests, 0)
        or not core.agrees(t.credits_usd, s.credits_usd, t.requests, :tolerance_usd)
        or not core.agrees(t.byok_usd, s.byok_usd, t.requests, :tolerance_usd))
