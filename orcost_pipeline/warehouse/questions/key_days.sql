select k.key_hash, u.day, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
from core.usage_daily u
join ref.account a on a.account_id = u.account_id
left join core.api_key k on k.key_id = u.key_id
where a.account = :account
    and (cast(:key_hashes as text[]) is null or k.key_hash = any(:key_hashes))
    and (cast(:first as date) is null or u.day >= :first)
group by k.key_hash, u.day
