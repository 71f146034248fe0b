select r.day, r.key_hash, r.model, r.credits_usd_before, r.credits_usd_after
from ops.restatement r
join ref.account a on a.account = r.account and a.as_of = r.noticed_at
where r.account = :account
order by r.day desc
