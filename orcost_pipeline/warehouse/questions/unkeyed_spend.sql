-- Analytics report a name. The candidates are the keys that have or had it; of a deleted key's spend, the deleted ones.
select a.account, u.key_name, u.cause, u.credits_usd, u.byok_usd, (
    select array_agg(distinct k.key_hash order by k.key_hash)
    from core.api_key k
    join core.api_key_version v using (key_id)
    where k.account_id = u.account_id and v.name = u.key_name
        and (u.cause <> 'spend of a deleted key' or k.deleted_at is not null)
) as key_hashes
from core.unkeyed_day u
join ref.account a using (account_id)
where (cast(:account as text) is null or a.account = :account) and u.day = :day
order by a.account, u.credits_usd desc, u.byok_usd desc, u.key_name
