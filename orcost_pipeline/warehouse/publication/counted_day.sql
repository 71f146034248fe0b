-- One row per UTC day: what counters had booked in the hours that analytics now report.
create temporary table counted_day on commit drop as
select (u.hour at time zone 'UTC')::date as day, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
from core.usage_hourly u
join asked_hours q on q.key_id = 0 and u.hour >= q.start_at and u.hour < q.end_at
where u.account_id = :account_id and u.source = 'counter'
group by 1
