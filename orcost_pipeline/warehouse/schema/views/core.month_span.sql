-- One row per account and UTC month: from when on its spend is known, whether all of it up to as_of is known, and
-- whether every day of the whole month is settled.
create or replace view core.month_span as
with months as (
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
    -- Months that begin or end inside a span for which counters know only one sum.
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
select account_id, month, greatest(m.known_from, x.known_from) as known_from,
    m.is_complete and x.month is null as is_complete, m.is_settled
from months m
left join cut x using (account_id, month);
