select day, company, credits_usd, byok_usd, requests
from marts.company_spend_daily
where account = :account
order by day desc, credits_usd desc
limit :most
