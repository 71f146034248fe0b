-- Currencies that have no exchange rate for the running month, and the companies that are charged in them.
select k.currency, array_agg(c.company order by c.company) as companies
from core.month_currency k
join ref.company c using (company_id)
where k.month = (select max(month) from core.month) and k.per_usd is null
group by k.currency
order by k.currency
