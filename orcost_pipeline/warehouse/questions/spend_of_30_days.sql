select coalesce(sum(credits_usd), 0) as credits_usd,
    coalesce(sum(credits_usd) filter (where company = 'Unattributed'), 0) as unattributed_usd
from marts.company_spend_rolling
where account = :account and period = '30d'
