select r.account, r.noticed_at, r.key_hash, k.name as key_name, r.model, r.credits_usd_before, r.credits_usd_after,
    r.byok_usd_before, r.byok_usd_after
from ops.restatement r
left join ref.api_key k using (account, key_hash)
where (cast(:account as text) is null or r.account = :account) and r.day = :day
order by r.account, r.noticed_at, k.name, r.model
