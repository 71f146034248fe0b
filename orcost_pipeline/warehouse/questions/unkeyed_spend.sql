-- Analytics report a name. The candidates are the keys that have or had it; of a deleted key's spend, the deleted ones.
select u.account, u.key_name, u.cause, u.credits_usd, u.byok_usd, (
    select array_agg(distinct k.key_hash order by k.key_hash)
    from core.api_key k
    join core.api_key_version v using (key_id)
    join ref.account a on a.account_id = k.account_id
    where a.account = u.account and v.name = u.key_name
        and (u.cause <> 'spend of a deleted key' or k.deleted_at is not null)
) as key_hashes
from marts.unkeyed_spend_daily u
where (cast(:account as text) is null or u.account = :account) and u.day = :day
order by u.account, u.credits_usd desc, u.byok_usd desc, u.key_name
