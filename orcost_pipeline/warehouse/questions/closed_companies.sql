select c.company
from core.closed d
join ref.company c using (company_id)
where d.month = :month and c.company_id <> 0 and (cast(:company as text) is null or c.company = :company)
order by c.company
