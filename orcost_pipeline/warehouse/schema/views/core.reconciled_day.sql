-- The rows of marts.reconciliation_daily, with exact amounts.
create or replace view core.reconciled_day as
with named as (
    select u.account_id, u.day, string_agg(u.cause, '; ' order by u.usd desc, u.cause) as cause
    from (
        select account_id, day, cause, sum(credits_usd + byok_usd) as usd
        from core.unkeyed_day
        group by account_id, day, cause
    ) u
    join ref.account a using (account_id)
    where abs(u.usd) > a.tolerance_usd
    group by u.account_id, u.day
), restated as (
    select account, day, sum(credits_usd_after - credits_usd_before) as credits_usd,
        sum(byok_usd_after - byok_usd_before) as byok_usd
    from ops.restatement
    group by account, day
), unread as (
    -- Days with usage that could not be read.
    select distinct account_id, (at at time zone 'UTC')::date as day
    from core.unreadable_row
    where at > '-infinity'
), shared as (
    -- Days for which counters know only a sum that includes neighbouring days.
    select distinct d.account_id, d.day
    from core.account_day d
    join core.counted_span c on c.account_id = d.account_id
        and c.start_at < (d.day + 1)::timestamp at time zone 'UTC' and c.end_at > d.day::timestamp at time zone 'UTC'
        and (c.start_at < d.day::timestamp at time zone 'UTC'
            or c.end_at > (d.day + 1)::timestamp at time zone 'UTC')
), compared as (
    select a.account, a.as_of, a.tolerance_usd, core.tolerated_usd(d.requests, a.tolerance_usd) as tolerated_usd,
        d.account_id, d.day, s.day is not null and not d.is_settled as is_shared, d.account_credits_usd, d.keys_credits_usd,
        d.account_byok_usd, d.keys_byok_usd, d.hours_credits_usd, d.hours_byok_usd, d.keys_hours_credits_usd,
        d.keys_hours_byok_usd, d.keys_activity_credits_usd, d.keys_activity_byok_usd, d.counters_credits_usd,
        d.counters_byok_usd,
        d.account_credits_usd - d.keys_credits_usd as residual_credits_usd,
        d.account_byok_usd - d.keys_byok_usd as residual_byok_usd,
        -- Hours derived from counters say nothing about a single day, not even about one without such an hour: its sum
        -- may be booked on another day.
        case when not d.is_counted and s.day is null then greatest(
            abs(d.account_credits_usd - d.hours_credits_usd), abs(d.account_byok_usd - d.hours_byok_usd)
        ) end as apart_usd,
        -- Hours that still have the value of the day before it was restated.
        greatest(
            abs(d.account_credits_usd - d.hours_credits_usd - r.credits_usd),
            abs(d.account_byok_usd - d.hours_byok_usd - r.byok_usd)
        ) as apart_but_for_restatement_usd,
        case when lag(d.day) over in_time = d.day - 1
            then d.credits_used_usd - lag(d.credits_used_usd) over in_time end as credits_endpoint_usd
    from core.account_day d
    join ref.account a using (account_id)
    left join restated r on r.account = a.account and r.day = d.day
    left join shared s on s.account_id = d.account_id and s.day = d.day
    window in_time as (partition by d.account_id order by d.day)
), disagreeing as (
    select c.*,
        case
            when u.day is not null then 'a row that could not be read'
            when apart_usd > tolerated_usd and coalesce(apart_but_for_restatement_usd, apart_usd) > tolerated_usd
                then 'hours and activity disagree'
            when least(residual_credits_usd, residual_byok_usd) < -tolerated_usd
                then 'the keys report more than the account'
        end as disagreement,
        case when apart_usd > tolerated_usd then 'a restated day' end as restatement,
        -- With a name, even a small difference is spend without a key, not rounding.
        case when greatest(residual_credits_usd, residual_byok_usd)
                > case when n.cause is null then tolerated_usd else tolerance_usd end
            then coalesce(n.cause, 'spend without a key, or of a key never listed') end as unexplained,
        case when is_shared then 'a sum of several days' end as shared
    from compared c
    left join named n using (account_id, day)
    left join unread u using (account_id, day)
), rounded as (
    select d.*, (
        select max(usd)
        from (values
            (case when restatement is null then apart_usd else apart_but_for_restatement_usd end),
            (case when unexplained is null then greatest(abs(residual_credits_usd), abs(residual_byok_usd)) end)
        ) as differences (usd)
        where usd > tolerance_usd and usd <= tolerated_usd
    ) as rounding_usd
    from disagreeing d
)
select account, day, account_credits_usd, keys_credits_usd, residual_credits_usd, account_byok_usd, keys_byok_usd,
    residual_byok_usd, hours_credits_usd,
    case
        when disagreement is not null then 'open'
        when coalesce(restatement, unexplained, shared) is not null or rounding_usd is not null then 'explained'
        else 'closed'
    end as status,
    coalesce(
        disagreement,
        nullif(
            concat_ws('; ', restatement, unexplained, shared, case when rounding_usd is not null then 'rounding' end), ''
        )
    ) as cause,
    hours_byok_usd, keys_hours_credits_usd, keys_hours_byok_usd, keys_activity_credits_usd, keys_activity_byok_usd,
    counters_credits_usd, counters_byok_usd, credits_endpoint_usd, as_of, rounding_usd
from rounded;
