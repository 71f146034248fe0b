select company, credits_usd + byok_usd as usd
from marts.company_spend_rolling
where account = :account and period = '30d'
order by usd desc, company
limit :most
