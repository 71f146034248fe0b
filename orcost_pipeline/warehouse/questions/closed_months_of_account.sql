-- Closed months whose statements have lines of an account.
select distinct month
from core.closed_line
where account = :account
order by month
