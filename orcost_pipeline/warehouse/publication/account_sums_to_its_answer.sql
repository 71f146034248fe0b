-- Hours read in this run whose stored usage is not what the account answered, beyond tolerance and rounding.
with reported as (
    select r.hour, sum(r.requests) as requests, sum(r.credits_usd) as credits_usd, sum(r.byok_usd) as byok_usd
    from raw.usage_hourly r
    where r.run_id = :extraction_id and r.account = :account and r.key_hash is null
    group by r.hour
), stored as (
    select u.hour, sum(u.requests) as requests, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from core.usage_hourly u
    join asked_hours q on q.key_id = 0 and u.hour >= q.start_at and u.hour < q.end_at
    where u.account_id = :account_id
    group by u.hour
)
select hour, t.credits_usd as reported_usd, s.credits_usd as stored_usd
from reported t
full join stored s using (hour)
where coalesce(t.requests, 0) <> coalesce(s.requests, 0)
    or not core.agrees(t.credits_usd, s.credits_usd, t.requests, :tolerance_usd)
    or not core.agrees(t.byok_usd, s.byok_usd, t.requests, :tolerance_usd)
