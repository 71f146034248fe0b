-- One row per UTC day whose facts changed, and today: what each source reports for it.
create temporary table staged_account_day on commit drop as
with days as (
    select day from touched_day
    union
    select day from built_day
    union
    select distinct (hour at time zone 'UTC')::date from touched_hour
        where (hour at time zone 'UTC')::date >= (:first_day)::date
    union
    select day from core.account_day
        where account_id = :account_id and day = (:as_of at time zone 'UTC')::date
), facts as (
    select u.day, sum(u.requests) as requests,
        sum(u.credits_usd) as account_credits_usd,
        coalesce(sum(u.credits_usd) filter (where u.key_id <> 0), 0) as keys_credits_usd,
        sum(u.byok_usd) as account_byok_usd,
        coalesce(sum(u.byok_usd) filter (where u.key_id <> 0), 0) as keys_byok_usd,
        coalesce(sum(u.credits_usd) filter (where u.key_id <> 0 and u.source = 'activity'), 0) as activity_credits_usd,
        coalesce(sum(u.byok_usd) filter (where u.key_id <> 0 and u.source = 'activity'), 0) as activity_byok_usd
    from core.usage_daily u
    join days using (day)
    where u.account_id = :account_id
    group by u.day
), hours as (
    select d.day, sum(u.requests) as requests, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd,
        coalesce(sum(u.credits_usd) filter (where u.key_id <> 0), 0) as keys_credits_usd,
        coalesce(sum(u.byok_usd) filter (where u.key_id <> 0), 0) as keys_byok_usd,
        bool_or(u.source = 'counter') as is_counted
    from days d
    join core.usage_hourly u
        on u.hour >= d.day::timestamp at time zone 'UTC' and u.hour < (d.day + 1)::timestamp at time zone 'UTC'
    where u.account_id = :account_id
    group by d.day
), counters as (
    select counters_day as day, sum(usage_daily_usd) as credits_usd, sum(byok_usage_daily_usd) as byok_usd
    from raw.api_key
    where run_id = :extraction_id and account = :account and not is_deleted
    group by counters_day
), state as (
    select d.day, coalesce(b.is_settled or b.was_settled, o.is_settled, false) as is_settled,
        -- A day that is only partly covered by hours is not compared with them.
        (h.day is not null or a.counted_from is null)
            and (d.day >= (:first_day)::date or (o.is_settled and o.hours_credits_usd is not null)) is true as has_hours
    from days d
    join ref.account a on a.account_id = :account_id
    left join hours h using (day)
    left join built_day b using (day)
    left join core.account_day o on o.account_id = :account_id and o.day = d.day
)
select :account_id ::integer as account_id, t.day, t.is_settled, coalesce(h.is_counted, false) as is_counted,
    coalesce(f.account_credits_usd, 0) as account_credits_usd, coalesce(f.keys_credits_usd, 0) as keys_credits_usd,
    coalesce(f.account_byok_usd, 0) as account_byok_usd, coalesce(f.keys_byok_usd, 0) as keys_byok_usd,
    case when t.has_hours then coalesce(h.credits_usd, 0) end as hours_credits_usd,
    case when t.has_hours then coalesce(h.byok_usd, 0) end as hours_byok_usd,
    case when t.has_hours then coalesce(h.keys_credits_usd, 0) end as keys_hours_credits_usd,
    case when t.has_hours then coalesce(h.keys_byok_usd, 0) end as keys_hours_byok_usd,
    case when t.is_settled then coalesce(f.activity_credits_usd, 0) end as keys_activity_credits_usd,
    case when t.is_settled then coalesce(f.activity_byok_usd, 0) end as keys_activity_byok_usd,
    coalesce(c.credits_usd, o.counters_credits_usd) as counters_credits_usd,
    coalesce(c.byok_usd, o.counters_byok_usd) as counters_byok_usd,
    case when t.day = (:as_of at time zone 'UTC')::date then r.credits_used_usd else o.credits_used_usd end
        as credits_used_usd,
    greatest(f.requests, h.requests, 0) as requests
from state t
left join facts f using (day)
left join hours h using (day)
left join counters c using (day)
left join core.account_day o on o.account_id = :account_id and o.day = t.day
left join raw.account r on r.run_id = :extraction_id and r.account = :account
