-- Spend in psql: psql "$(orcost db url)" -f with_psql.sql

-- What did each company cost this month, and how much of it is unattributed?
select company, sum(total_usd) as total_usd,
    round(100 * sum(total_usd) / nullif(sum(sum(total_usd)) over (), 0), 1) as percent
from marts.spend_daily
where day >= (select date_trunc('month', max(as_of) at time zone 'UTC')::date from ref.account)
group by company
order by total_usd desc;

-- Which keys and models drive it?
select company, key_name, model, sum(total_usd) as total_usd
from marts.spend_daily
where day >= (select date_trunc('month', max(as_of) at time zone 'UTC')::date from ref.account)
group by company, key_name, model
order by total_usd desc
limit 10;

-- For a spreadsheet: \copy (select * from marts.spend_daily) to 'spend_daily.csv' csv header
select 'total ' || sum(total_usd) || ' numeric' as "all"
from marts.spend_daily;
