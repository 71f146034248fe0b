select company
from ref.company
where company_id <> 0
order by company
