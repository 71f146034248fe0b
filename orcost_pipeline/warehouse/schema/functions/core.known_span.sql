-- One row per account: from when on the spend between two whole UTC hours is known, and whether all of it up to as_of
-- is known.

-- Whole UTC days are known from daily usage, the hours before and after them from hourly usage.
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
        -- The current day is known from daily usage.
        cross join lateral (
            select (
                least(end_at, date_trunc('day', a.as_of, 'UTC') + interval '1 day') at time zone 'UTC'
            )::date as end_day
        ) e
        where a.as_of is not null
    ), edge as (
        select account_id, hours_from, start_at, least(days_start_at, end_at) as end_at from span
        union all
        select account_id, hours_from, days_end_at, end_at from span where days_start_at <= days_end_at
    ), part as (
        select e.account_id,
            case when e.hours_from < e.end_at then greatest(e.start_at, e.hours_from) end as known_from,
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
        -- A settled day has an amount of its own; other days and hours share the sum of their span.
        cross join lateral (values
            (known_span.start_at, known_span.start_at < s.days_start_at or f.day is null),
            (s.days_start_at, known_span.start_at < s.days_start_at and f.day is not null),
            (s.days_end_at, s.days_end_at < known_span.end_at and l.day is not null),
            (known_span.end_at, s.days_end_at < known_span.end_at or l.day is null)
        ) as boundary (at, matters)
        join core.counted_span c on c.account_id = s.account_id and c.start_at < boundary.at and c.end_at > boundary.at
        where boundary.matters
        group by s.account_id
    ), known as (
        select p.account_id, min(p.known_from) as known_from, bool_and(p.is_complete) as is_complete
        from part p
        group by p.account_id
    )
    select k.account_id,
        case
            when k.known_from is not null and greatest(k.known_from, c.known_from) < known_span.end_at
                then greatest(k.known_from, c.known_from)
        end,
        k.is_complete and c.account_id is null
    from known k
    left join cut c using (account_id)
$$;
