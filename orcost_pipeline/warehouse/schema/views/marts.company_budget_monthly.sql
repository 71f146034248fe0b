-- One row per UTC month and company that has a budget in the list of companies: the budget and the spend of all
-- accounts (credits and BYOK), for the month of the newest as_of and for earlier months with spend, under today's budget.

-- The month of the data is that of the newest as_of: each account counts up to its own as_of and is forecast from there;
-- one whose data ends before the month adds nothing to it. A month that is over has its spend as its forecast.
create or replace view marts.company_budget_monthly as
with newest as (
    select max(as_of) as as_of, date_trunc('month', max(as_of) at time zone 'UTC')::date as month
    from ref.account
), span as (
    select month, max(known_from) as known_from, bool_and(is_complete) as is_complete
    from core.month_span
    group by month
), forecast as materialized (
    -- Null if the forecast of one account is null. Materialized, because the planner cannot estimate the number of
    -- companies.
    select f.company_id, sum(f.spent_usd) as spent_usd,
        case when count(*) = count(f.forecast_usd) then sum(f.forecast_usd) end as forecast_usd
    from newest n
    join core.company_forecast f on f.is_newest and f.month = n.month
    group by f.company_id
), spent as (
    select date_trunc('month', d.day::timestamp)::date as month, d.company_id, sum(d.credits_usd + d.byok_usd) as usd
    from core.company_day d
    where d.day < (select month from newest)
    group by 1, d.company_id
), budget as (
    select m.month, c.company_id, coalesce(f.spent_usd, 0) as spent_usd,
        case when f.company_id is null then 0 else f.forecast_usd end as forecast_usd, m.known_from, m.is_complete
    from newest n
    join span m on m.month = n.month
    join ref.company c on c.monthly_budget_usd is not null
    left join forecast f on f.company_id = c.company_id
    union all
    select m.month, s.company_id, s.usd, s.usd, m.known_from, m.is_complete
    from spent s
    join span m using (month)
    join ref.company c on c.company_id = s.company_id and c.monthly_budget_usd is not null
)
select
    b.month, c.company, c.monthly_budget_usd::numeric(38, 18) as budget_usd,
    b.spent_usd::numeric(38, 18) as spent_usd, b.forecast_usd::numeric(38, 18) as forecast_usd,
    core.budget_status(c.monthly_budget_usd, b.spent_usd, b.forecast_usd, t.budget_percent) as status,
    n.as_of, b.known_from, b.is_complete, c.display_name, c.external_id, c.cost_centre, c.owner_email
from budget b
join ref.company c using (company_id)
cross join newest n
cross join ref.threshold t;
