-- One row per account and rolling period: from when on its spend is known, and whether all of it is known.
create or replace view core.rolling_span as
select a.account_id, p.period, coalesce(s.end_at, r.start_at) as start_at,
    case when greatest(a.hours_from, s.end_at, r.start_at) <= a.as_of
        then greatest(a.hours_from, s.end_at, r.start_at) end as known_from,
    s.end_at is null and a.hours_from <= r.start_at as is_complete
from ref.account a
cross join (values ('24h'), ('7d'), ('30d')) as p (period)
cross join lateral (select core.rolling_start(p.period, a.as_of) as start_at) r
left join core.counted_span s on s.account_id = a.account_id and s.start_at < r.start_at and s.end_at > r.start_at
where a.as_of is not null;
