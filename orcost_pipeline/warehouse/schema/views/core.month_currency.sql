-- One row per UTC month and company: the currency that it is charged in, and its last rate up to the end of the month (null
-- where there is none).
create or replace view core.month_currency as
select m.month, c.company_id, k.currency, core.minor_unit(k.currency) as minor_unit,
    case k.currency when 'USD' then 1 else r.per_usd end as per_usd, r.date as rate_date
from core.month m
cross join ref.company c
cross join lateral (select coalesce(c.currency, 'USD') as currency) k
left join lateral (
    select r.date, r.per_usd
    from ref.exchange_rate r
    where r.currency = k.currency and r.currency <> 'USD' and r.date < m.month + interval '1 month'
    order by r.date desc
    limit 1
) r on true;
