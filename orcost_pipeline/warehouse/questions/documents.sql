select m.html, m.csv, m.json
from core.closed_month m
join ref.company c using (company_id)
where c.company = :company and m.month = :month and m.html is not null
