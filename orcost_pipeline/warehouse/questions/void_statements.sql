-- For each company, the statement of a month that became void last.
select distinct on (company) company, closed_at, currency, core.minor_unit(currency) as minor_unit, total
from ops.void_statement
where month = :month
order by company, closed_at desc
