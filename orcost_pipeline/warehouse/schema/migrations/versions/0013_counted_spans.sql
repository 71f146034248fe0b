-- Spans of several UTC hours of which the counters of keys tell one sum, booked in the last hour: whatever begins or ends
-- inside one is not known.

create table core.counted_span (
    account_id integer not null references ref.account,
    start_at timestamptz not null,
    end_at timestamptz not null,
    primary key (account_id, start_at)
);

-- From where syncs that succeeded, and the starts of day, week and month that each of them was told, leave such spans.
insert into core.counted_span
with sync as (
    select a.account_id, a.counted_from, r.as_of, lag(r.as_of) over (partition by a.account_id order by r.as_of) as before
    from ref.account a
    join ops.sync_run r on r.account = a.account and r.status = 'succeeded' and r.as_of > a.counted_from and r.as_of <= a.as_of
), told as (
    select account_id, unnest(array[
        counted_from, as_of, date_trunc('day', as_of, 'UTC'), date_trunc('week', as_of, 'UTC'), date_trunc('month', as_of, 'UTC')
    ]) as at, counted_from
    from sync
), edge as (
    select distinct account_id, date_trunc('hour', at + interval '1 hour' - interval '1 microsecond', 'UTC') as at
    from told
    where at >= counted_from
), span as (
    select account_id, at as start_at, lead(at) over (partition by account_id order by at) as end_at
    from edge
)
select account_id, start_at, end_at
from span
where end_at - start_at > interval '1 hour';

-- What is known of the rolling periods of each account, by its hours.

create view core.rolling_span as
select a.account_id, p.period, coalesce(s.end_at, r.start_at) as start_at,
    case when greatest(a.hours_from, s.end_at, r.start_at) <= a.as_of
        then greatest(a.hours_from, s.end_at, r.start_at) end as known_from,
    s.end_at is null and a.hours_from <= r.start_at as is_complete
from ref.account a
cross join (values ('24h'), ('7d'), ('30d')) as p (period)
cross join lateral (select core.rolling_start(p.period, a.as_of) as start_at) r
left join core.counted_span s on s.account_id = a.account_id and s.start_at < r.start_at and s.end_at > r.start_at
where a.as_of is not null;

create or replace view marts.key_spend_rolling as
select
    a.account, k.key_hash, c.company, r.period, v.name as key_name, a.as_of, r.requests, r.prompt_tokens,
    r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd,
    s.known_from, s.is_complete,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
from core.key_rolling r
join ref.account a using (account_id)
join core.rolling_span s using (account_id, period)
join ref.company c using (company_id)
left join core.api_key k on k.key_id = r.key_id
left join core.api_key_version v on v.key_id = r.key_id and v.valid_to is null;

create or replace view marts.company_spend_rolling as
select
    a.account, c.company, r.period, a.as_of, r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens,
    r.cached_tokens, r.credits_usd, r.byok_usd, r.previous_credits_usd, r.previous_byok_usd,
    s.known_from, s.is_complete,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
from core.company_rolling r
join ref.account a using (account_id)
join core.rolling_span s using (account_id, period)
join ref.company c using (company_id);

-- What is known of a span of whole hours up to each account's as_of: whole UTC days as days, what is left as hours.

create or replace function core.known_span(start_at timestamptz, end_at timestamptz)
returns table (account_id integer, known_from timestamptz, is_complete boolean)
language sql stable as $$
    with span as (
        select a.account_id, a.hours_from, least(end_at, a.as_of) as end_at, s.first_day, e.end_day,
            s.first_day::timestamp at time zone 'UTC' as days_start_at,
            greatest(e.end_day::timestamp at time zone 'UTC', start_at) as days_end_at
        from ref.account a
        cross join lateral (
            select ((start_at - interval '1 microsecond') at time zone 'UTC')::date + 1 as first_day
        ) s
        -- The running day is known as a day.
        cross join lateral (
            select (least(end_at, date_trunc('day', a.as_of, 'UTC') + interval '1 day') at time zone 'UTC')::date as end_day
        ) e
        where a.as_of is not null
    ), edge as (
        select account_id, hours_from, start_at, least(days_start_at, end_at) as end_at from span
        union all
        select account_id, hours_from, days_end_at, end_at from span where days_start_at <= days_end_at
    ), part as (
        select e.account_id, case when e.hours_from < e.end_at then greatest(e.start_at, e.hours_from) end as known_from,
            e.hours_from <= e.start_at as is_complete
        from edge e
        where e.start_at < e.end_at
        union all
        select s.account_id, min(d.day)::timestamp at time zone 'UTC', count(d.day) = s.end_day - s.first_day
        from span s
        left join core.account_day d on d.account_id = s.account_id and d.day >= s.first_day and d.day < s.end_day
        where s.first_day < s.end_day
        group by s.account_id, s.first_day, s.end_day
    ), cut as (
        select s.account_id, max(c.end_at) filter (where c.start_at < known_span.start_at) as known_from
        from span s
        left join core.account_day f
            on f.account_id = s.account_id and f.day = s.first_day and s.first_day < s.end_day and f.is_settled
        left join core.account_day l
            on l.account_id = s.account_id and l.day = s.end_day - 1 and s.first_day < s.end_day and l.is_settled
        -- A day that is settled is known by itself; other days and hours share what was told as one sum.
        cross join lateral (values
            (known_span.start_at, known_span.start_at < s.days_start_at or f.day is null),
            (s.days_start_at, known_span.start_at < s.days_start_at and f.day is not null),
            (s.days_end_at, s.days_end_at < known_span.end_at and l.day is not null),
            (known_span.end_at, s.days_end_at < known_span.end_at or l.day is null)
        ) as boundary (at, matters)
        join core.counted_span c on c.account_id = s.account_id and c.start_at < boundary.at and c.end_at > boundary.at
        where boundary.matters
        group by s.account_id
    ), told as (
        select p.account_id, min(p.known_from) as known_from, bool_and(p.is_complete) as is_complete
        from part p
        group by p.account_id
    )
    select t.account_id, case when greatest(t.known_from, c.known_from) < known_span.end_at
            and t.known_from is not null then greatest(t.known_from, c.known_from) end,
        t.is_complete and c.account_id is null
    from told t
    left join cut c using (account_id)
$$;

create or replace view marts.company_spend_monthly as
with days as (
    select s.*, date_trunc('month', s.day::timestamp)::date as month from core.company_day s
), months as (
    select d.account_id, m.month, min(d.day)::timestamp at time zone 'UTC' as known_from,
        count(*) = least(m.next_month, (a.as_of at time zone 'UTC')::date + 1) - m.month as is_complete,
        count(*) filter (where d.is_settled) = m.next_month - m.month as is_settled, m.next_month,
        coalesce(bool_or(d.is_settled) filter (where d.day = m.month), false) as begins_settled,
        coalesce(bool_or(d.is_settled) filter (where d.day = m.next_month - 1), false) as ends_settled
    from core.account_day d
    join ref.account a using (account_id)
    cross join lateral (
        select date_trunc('month', d.day::timestamp)::date as month,
            (date_trunc('month', d.day::timestamp) + interval '1 month')::date as next_month
    ) m
    group by d.account_id, a.as_of, m.month, m.next_month
), cut as (
    -- Months that begin or end among days that counters told as one sum.
    select m.account_id, m.month, max(c.end_at) filter (where c.start_at < b.start_at) as known_from
    from months m
    cross join lateral (
        select m.month::timestamp at time zone 'UTC' as start_at, m.next_month::timestamp at time zone 'UTC' as end_at
    ) b
    join core.counted_span c on c.account_id = m.account_id
        and ((c.start_at < b.start_at and c.end_at > b.start_at and not m.begins_settled)
            or (c.start_at < b.end_at and c.end_at > b.end_at and not m.ends_settled))
    group by m.account_id, m.month
)
select
    a.account, s.month, c.company,
    sum(s.requests) as requests,
    sum(s.prompt_tokens) as prompt_tokens,
    sum(s.completion_tokens) as completion_tokens,
    sum(s.reasoning_tokens) as reasoning_tokens,
    sum(s.cached_tokens) as cached_tokens,
    sum(s.credits_usd) as credits_usd,
    sum(s.byok_usd) as byok_usd,
    m.is_settled, a.as_of, c.display_name, c.external_id, c.cost_centre, c.owner_email,
    greatest(m.known_from, x.known_from) as known_from, m.is_complete and x.month is null as is_complete
from days s
join months m using (account_id, month)
left join cut x using (account_id, month)
join ref.account a using (account_id)
join ref.company c using (company_id)
group by a.account, a.as_of, s.month, c.company_id, m.is_settled, m.known_from, m.is_complete, x.month, x.known_from;

-- A day of which counters know no more than a sum with its neighbours.

create or replace view marts.reconciliation_daily as
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
    -- Days whose figures lack what could not be read.
    select distinct account_id, (at at time zone 'UTC')::date as day
    from core.unreadable_row
    where at > '-infinity'
), shared as (
    -- Days of which counters tell no more than a sum with days beside them.
    select distinct d.account_id, d.day
    from core.account_day d
    join core.counted_span c on c.account_id = d.account_id
        and c.start_at < (d.day + 1)::timestamp at time zone 'UTC' and c.end_at > d.day::timestamp at time zone 'UTC'
        and (c.start_at < d.day::timestamp at time zone 'UTC'
            or c.end_at > (d.day + 1)::timestamp at time zone 'UTC')
    where not d.is_settled
), compared as (
    select a.account, a.as_of, a.tolerance_usd, core.tolerated_usd(d.requests, a.tolerance_usd) as tolerated_usd,
        d.account_id, d.day, d.account_credits_usd, d.keys_credits_usd,
        d.account_byok_usd, d.keys_byok_usd, d.hours_credits_usd, d.hours_byok_usd, d.keys_hours_credits_usd,
        d.keys_hours_byok_usd, d.keys_activity_credits_usd, d.keys_activity_byok_usd, d.counters_credits_usd,
        d.counters_byok_usd,
        d.account_credits_usd - d.keys_credits_usd as residual_credits_usd,
        d.account_byok_usd - d.keys_byok_usd as residual_byok_usd,
        -- Hours that follow from counters are no witness of a single day.
        case when not d.is_counted then greatest(
            abs(d.account_credits_usd - d.hours_credits_usd), abs(d.account_byok_usd - d.hours_byok_usd)
        ) end as apart_usd,
        -- Hours that stand where the day stood before it was restated.
        greatest(
            abs(d.account_credits_usd - d.hours_credits_usd - r.credits_usd),
            abs(d.account_byok_usd - d.hours_byok_usd - r.byok_usd)
        ) as apart_but_for_restatement_usd,
        case when lag(d.day) over in_time = d.day - 1
            then d.credits_used_usd - lag(d.credits_used_usd) over in_time end as credits_endpoint_usd
    from core.account_day d
    join ref.account a using (account_id)
    left join restated r on r.account = a.account and r.day = d.day
    window in_time as (partition by d.account_id order by d.day)
), disagreeing as (
    select c.*,
        case
            when u.day is not null then 'a row that could not be read'
            when apart_usd > tolerated_usd and coalesce(apart_but_for_restatement_usd, apart_usd) > tolerated_usd
                then 'hours and activity disagree'
            when least(residual_credits_usd, residual_byok_usd) < -tolerated_usd then 'the keys report more than the account'
        end as disagreement,
        case when apart_usd > tolerated_usd then 'a restated day' end as restatement,
        -- A name tells spend without a key from rounding, however small it is.
        case when greatest(residual_credits_usd, residual_byok_usd)
                > case when n.cause is null then tolerated_usd else tolerance_usd end
            then coalesce(n.cause, 'spend without a key, or of a key never listed') end as unexplained,
        case when h.day is not null then 'a sum of several days' end as shared
    from compared c
    left join named n using (account_id, day)
    left join unread u using (account_id, day)
    left join shared h using (account_id, day)
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
        nullif(concat_ws('; ', restatement, unexplained, shared, case when rounding_usd is not null then 'rounding' end), '')
    ) as cause,
    hours_byok_usd, keys_hours_credits_usd, keys_hours_byok_usd, keys_activity_credits_usd, keys_activity_byok_usd,
    counters_credits_usd, counters_byok_usd, credits_endpoint_usd, as_of, rounding_usd
from rounded;
