select month as day, sum(total_usd) as whole, sum(margin_usd) as part
from marts.company_charge_monthly
where company <> 'Unattributed'
group by month
order by month desc
limit 24
