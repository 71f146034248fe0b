select month, company, trim_scale(usage_usd + minimum_usd + fees_usd) as total_usd
from marts.company_charge_monthly
where status = 'open'
order by month, company
