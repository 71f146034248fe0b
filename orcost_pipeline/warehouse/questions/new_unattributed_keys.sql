-- Keys first seen after the account's first sync that have no owner today and have spend in the last 30 days. As old
-- runs are deleted, the oldest key also shows when the account was first synced.
with first_sync as (
    select a.account, least(
        (select min(r.as_of) from ops.sync_run r where r.account = a.account and r.status = 'succeeded'),
        (select min(k.first_seen_at) from core.api_key k where k.account_id = a.account_id)
    ) as at
    from ref.account a
)
select k.account, k.key_hash, k.name as key_name, k.first_seen_at, s.credits_usd, s.byok_usd
from ref.api_key k
join first_sync f on f.account = k.account and k.first_seen_at > f.at
cross join lateral (
    select sum(r.credits_usd) as credits_usd, sum(r.byok_usd) as byok_usd
    from marts.key_spend_rolling r
    where r.account = k.account and r.key_hash = k.key_hash and r.period = '30d'
) s
where k.company = 'Unattributed' and k.deleted_at is null and (s.credits_usd <> 0 or s.byok_usd <> 0)
order by k.account, k.key_hash
