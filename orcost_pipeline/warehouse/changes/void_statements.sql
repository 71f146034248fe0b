-- The closed statements of a month that is opened again, for a company or (null) for every one.
insert into ops.void_statement (month, company, closed_at, reopened_at, currency, total, total_usd, html, csv, json)
select m.month, c.company, d.closed_at, :at, m.currency, coalesce(l.total, 0), coalesce(l.total_usd, 0), m.html, m.csv, m.json
from core.closed_month m
join ref.company c using (company_id)
join core.closed d using (month, company_id)
cross join lateral (
    select sum(amount) as total, sum(amount_usd) as total_usd
    from core.closed_line
    where month = m.month and company_id = m.company_id
) l
where m.month = :month and m.html is not null and (cast(:company as text) is null or c.company = :company)
returning company, closed_at, currency, core.minor_unit(currency) as minor_unit, total
