-- One row per UTC month and company that has spend in it, or a monthly fee or minimum of its own: charges computed
-- from today's data, whether or not the month is closed, without adjustments.

-- Fees and minimums follow the newest price plans that an account was published with; plans that are only loaded have
-- no effect yet. A row for every company (*) applies only to companies with spend in the month.
create or replace view core.charge_month as
with spend as (
    select date_trunc('month', day::timestamp)::date as month, company_id, sum(credits_usd) as credits_usd,
        sum(byok_usd) as byok_usd, sum(charge_usd) as usage_usd, sum(purchase_fee_usd) as purchase_fee_usd
    from core.company_day
    group by 1, 2
), monthly as (
    select p.line, p.company, p.charge, p.value, coalesce(p.valid_from, '-infinity') as valid_from,
        coalesce(p.valid_to, 'infinity') as valid_to
    from ref.price_plan p
    where p.version = (select max(plan_version) from ref.account)
        and p.charge in ('monthly_fee_usd', 'monthly_minimum_usd')
), candidate as (
    select month, company_id
    from spend
    union
    select m.month, c.company_id
    from core.month m
    join monthly p on p.valid_from <= m.month and p.valid_to > m.month
    join ref.company c using (company)
    where p.company <> '*'
), held as (
    -- The first row that holds on the month's first day.
    select distinct on (t.month, t.company_id, p.charge) t.month, t.company_id, p.charge, p.value
    from candidate t
    join ref.company c using (company_id)
    left join spend s using (month, company_id)
    join monthly p on p.valid_from <= t.month and p.valid_to > t.month
        and (p.company = c.company or (p.company = '*' and s.month is not null and t.company_id <> 0))
    order by t.month, t.company_id, p.charge, p.line
)
select t.month, t.company_id, coalesce(s.credits_usd, 0) as credits_usd, coalesce(s.byok_usd, 0) as byok_usd,
    coalesce(s.usage_usd, 0) as usage_usd,
    greatest(n.value - coalesce(s.usage_usd, 0), 0) as minimum_usd,
    coalesce(f.value, 0) as monthly_fee_usd, coalesce(s.purchase_fee_usd, 0) as purchase_fee_usd
from candidate t
left join spend s using (month, company_id)
left join held f on f.month = t.month and f.company_id = t.company_id and f.charge = 'monthly_fee_usd'
left join held n on n.month = t.month and n.company_id = t.company_id and n.charge = 'monthly_minimum_usd'
where s.month is not null or f.value is not null or n.value is not null;
