-- One row per part, account, UTC day and company: spend, and what it is compared with (the spend of a month earlier,
-- the forecast, the budget, the account's total). Each part fills its own columns, so that their sums over the same
-- days and companies can be compared.

-- A null without a type would make the column of all parts a numeric without a precision.
-- Spend of a month earlier is on the day that it is compared with; the last day of a month also takes the remaining
-- days of a longer month before it. Only finished days are compared, and only with known days.
create or replace view marts.company_spend_compared as
select 'spend' as part, s.day, a.account, c.company, t.usd as spend_usd,
    (case when s.day < (a.as_of at time zone 'UTC')::date and e.day is not null then t.usd end)::numeric(38, 18)
        as compared_usd,
    null::numeric(38, 18) as earlier_usd, t.usd as forecast_usd, null::numeric(38, 18) as budget_usd,
    null::numeric(38, 18) as account_usd
from core.company_day s
cross join lateral (select (s.credits_usd + s.byok_usd)::numeric(38, 18) as usd) t
join ref.account a using (account_id)
join ref.company c using (company_id)
left join core.account_day e on e.account_id = s.account_id and e.day = (s.day - interval '1 month')::date
union all
select 'month earlier', d.day, a.account, c.company, null::numeric(38, 18), null::numeric(38, 18),
    (s.credits_usd + s.byok_usd)::numeric(38, 18), null::numeric(38, 18), null::numeric(38, 18), null::numeric(38, 18)
from core.account_day d
join ref.account a using (account_id)
join core.company_day s on s.account_id = d.account_id
    -- These bounds let the query use an index.
    and s.day >= (d.day - interval '1 month')::date and s.day <= (d.day - interval '1 month')::date + 3
    and (s.day + interval '1 month')::date = d.day
join ref.company c using (company_id)
where d.day < (a.as_of at time zone 'UTC')::date
union all
-- The remaining forecast, on the month's last day.
select 'forecast', (f.month + interval '1 month - 1 day')::date, a.account, c.company, null::numeric(38, 18),
    null::numeric(38, 18), null::numeric(38, 18), (f.forecast_usd - f.spent_usd)::numeric(38, 18),
    null::numeric(38, 18), null::numeric(38, 18)
from core.company_forecast f
join ref.account a using (account_id)
join ref.company c using (company_id)
where f.is_newest
union all
-- Each day's part of the budget. Running totals are subtracted, so that the days of a month sum to its budget exactly.
select 'budget', b.month + d.number - 1, null, b.company, null::numeric(38, 18),
    null::numeric(38, 18), null::numeric(38, 18), null::numeric(38, 18),
    (
        round(b.budget_usd * d.number / m.days, 18) - round(b.budget_usd * (d.number - 1) / m.days, 18)
    )::numeric(38, 18),
    null::numeric(38, 18)
from marts.company_budget_monthly b
cross join lateral (select (b.month + interval '1 month')::date - b.month as days) m
cross join lateral generate_series(1, m.days) as d (number)
union all
select 'account', d.day, a.account, null, null::numeric(38, 18), null::numeric(38, 18), null::numeric(38, 18),
    null::numeric(38, 18), null::numeric(38, 18),
    (d.account_credits_usd + d.account_byok_usd)::numeric(38, 18)
from core.account_day d
join ref.account a using (account_id);
