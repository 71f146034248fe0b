select month
from core.month
order by month
