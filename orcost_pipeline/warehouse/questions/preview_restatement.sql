select day, left(key_hash, 8) as key, model, credits_usd_before as before, credits_usd_after as after
from ops.restatement
where account = :account
order by noticed_at desc, day desc
limit :most
