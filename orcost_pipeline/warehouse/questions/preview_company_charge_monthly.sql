select month, company, credits_usd, total_usd, margin_usd, status
from marts.company_charge_monthly
order by month desc, total_usd desc, company
limit :most
