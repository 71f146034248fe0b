-- One row per UTC day, from the first that counters had booked on: their sum, and what analytics report instead.
insert into ops.counter_replacement
with reported as (
    select (u.hour at time zone 'UTC')::date as day, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from core.usage_hourly u
    join asked_hours q on q.key_id = 0 and u.hour >= q.start_at and u.hour < q.end_at
    where u.account_id = :account_id and u.source <> 'counter'
    group by 1
)
select :account, day, :as_of, coalesce(c.credits_usd, 0), coalesce(t.credits_usd, 0), coalesce(c.byok_usd, 0),
    coalesce(t.byok_usd, 0), :run_id
from counted_day c
full join reported t using (day)
where day >= (select min(day) from counted_day)
on conflict (account, day, replaced_at) do nothing
