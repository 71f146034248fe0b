select distinct c.company
from core.model_month u
join ref.company c using (company_id)
order by c.company
