select period, key_name, company, credits_usd, byok_usd
from marts.key_spend_rolling
where account = :account
order by period desc, credits_usd desc
limit :most
