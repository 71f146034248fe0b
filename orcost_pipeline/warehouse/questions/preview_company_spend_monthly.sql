select month, company, credits_usd, byok_usd, requests
from marts.company_spend_monthly
where account = :account
order by month desc, credits_usd desc
limit :most
