select distinct month
from core.month_span
order by month
