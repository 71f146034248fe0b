-- Closed months for which companies were charged, or are to be, for usage of an account.
select distinct c.month
from core.company_day s
join ref.account a using (account_id)
join core.closed c on c.company_id = s.company_id and c.month = date_trunc('month', s.day::timestamp)::date
where a.account = :account and s.company_id <> 0
order by c.month
