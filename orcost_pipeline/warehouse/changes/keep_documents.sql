update core.closed_month m
set html = :html, csv = :csv, json = :json
from ref.company c
where c.company_id = m.company_id and c.company = :company and m.month = :month
