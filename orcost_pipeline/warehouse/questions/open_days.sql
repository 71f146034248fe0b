select account, array_agg(day order by day) as days
from marts.reconciliation_daily
where status = 'open'
group by account
