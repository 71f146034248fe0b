select coalesce(sum(credits_usd), 0) as credits_usd
from marts.unkeyed_spend_daily
where account = :account
