select period, company, credits_usd, previous_credits_usd as before, byok_usd
from marts.company_spend_rolling
where account = :account
order by period desc, credits_usd desc
limit :most
