select key_name, first_day, last_day, credits_usd, byok_usd
from marts.unattributed_spend
where account = :account
order by credits_usd desc
limit :most
