select a.account, a.kind, count(*) as keys, min(v.name) as key_name, bool_and(k.deleted_at is not null) as is_deleted
from core.api_key k
join ref.account a using (account_id)
join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
left join ref.account o on o.account = :account
left join core.api_key own on own.account_id = o.account_id and own.key_hash = k.key_hash
where k.key_hash = any(:keys) and a.account <> :account
    and (own.key_id is null or k.account_id < own.account_id)
group by a.account_id
order by keys desc, a.account_id
limit 1
