select k.month, c.company
from core.closed k
join ref.company c using (company_id)
order by k.month, c.company
