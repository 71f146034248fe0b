-- A month (null: that of the newest as_of) and the three before it, each by company: what was spent and forecast by the
-- same day of the month, and what the month cost once it is over and known as a whole.
with newest as (
    select (max(as_of) at time zone 'UTC')::date as day from ref.account
), month as (
    select m.month, m.next_month, m.month <= n.day and m.next_month > n.day as is_running,
        least(m.month + (extract(day from n.day)::integer - 1), m.next_month - 1) as made_on
    from newest n
    cross join generate_series(0, 3) as back
    cross join lateral (
        select (f.month - make_interval(months => back))::date as month,
            (f.month - make_interval(months => back - 1))::date as next_month
        from (select coalesce(cast(:month as date), date_trunc('month', n.day::timestamp)::date)::timestamp as month) f
    ) m
), made as (
    select m.month, f.company_id, sum(f.spent_usd) as spent_usd,
        case when count(*) = count(f.forecast_usd) then sum(f.forecast_usd) end as forecast_usd
    from month m
    join core.company_forecast f
        on f.month = m.month and (f.is_newest and m.is_running or f.day = m.made_on and not m.is_running)
    group by m.month, f.company_id
), whole as (
    select m.month
    from month m
    join core.month_span s using (month)
    where not m.is_running
    group by m.month
    having bool_and(s.is_complete)
), cost as (
    select m.month, s.company_id, sum(s.credits_usd + s.byok_usd) as usd
    from whole w
    join month m using (month)
    join core.company_day s on s.day >= m.month and s.day < m.next_month
    group by m.month, s.company_id
), company as (
    select company_id from made union select company_id from cost
), compared as (
    -- A company that had not spent anything yet was forecast with 0, where there was a forecast at all.
    select m.month, c.company_id, m.made_on,
        coalesce(f.spent_usd, 0) as spent_usd,
        case when f.company_id is not null then f.forecast_usd
            when exists (select from made x where x.month = m.month and x.forecast_usd is not null) then 0 end
            as forecast_usd,
        case when w.month is not null then coalesce(k.usd, 0) end as actual_usd
    from month m
    cross join company c
    left join made f on f.month = m.month and f.company_id = c.company_id
    left join whole w on w.month = m.month
    left join cost k on k.month = m.month and k.company_id = c.company_id
)
select r.month, c.company, r.made_on, trim_scale(r.spent_usd) as spent_usd, trim_scale(r.forecast_usd) as forecast_usd,
    trim_scale(r.actual_usd) as actual_usd,
    round(100 * (r.forecast_usd - r.actual_usd) / nullif(r.actual_usd, 0), 2) as error_percent,
    c.monthly_budget_usd as budget_usd
from compared r
join ref.company c using (company_id)
order by max(coalesce(r.forecast_usd, r.spent_usd)) filter (where r.month = (select max(month) from month))
        over (partition by r.company_id) desc nulls last,
    c.company, r.month desc
