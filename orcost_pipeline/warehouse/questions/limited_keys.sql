-- A deleted key has no percentage.
select k.account, k.key_hash, k.name as key_name, k.limit_usd, k.limit_reset, k.limit_used_percent as used_percent
from ref.api_key k
join ref.account a using (account)
where k.limit_used_percent >= :percent and not k.is_disabled
    and (k.expires_at is null or k.expires_at > a.as_of)
order by k.account, k.key_hash
