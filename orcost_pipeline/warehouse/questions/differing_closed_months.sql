-- Closed months whose lines do not sum to what was closed, adjustments included, or whose documents are gone.
with lines as (
    select month, company_id, sum(amount_usd) as usd
    from core.closed_line
    group by month, company_id
), adjusted as (
    select booked_month as month, company_id, sum(amount_usd) as usd
    from core.closed_adjustment
    group by booked_month, company_id
)
select m.month, c.company, m.usage_usd + m.minimum_usd + m.monthly_fee_usd + m.purchase_fee_usd + coalesce(j.usd, 0) as usd,
    coalesce(l.usd, 0) as lines_usd
from core.closed_month m
join ref.company c using (company_id)
left join lines l using (month, company_id)
left join adjusted j using (month, company_id)
where m.company_id <> 0 and (
        coalesce(l.usd, 0) <> m.usage_usd + m.minimum_usd + m.monthly_fee_usd + m.purchase_fee_usd + coalesce(j.usd, 0)
        or m.html is null or m.csv is null or m.json is null
    )
order by m.month desc, c.company
