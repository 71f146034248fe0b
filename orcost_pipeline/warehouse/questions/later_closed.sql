select c.company, d.month, 'closed' as status, 'USD' as currency, 1 as per_usd
from core.closed d
join ref.company c using (company_id)
where d.month > :month and c.company_id <> 0 and (cast(:company as text) is null or c.company = :company)
order by d.month, c.company
