-- The first hours of the rolling windows and of those before them: where one lies among hours that counters gave as one
-- sum, the window is known from their end on.
create temporary table rolling_edge on commit drop as
select r.period, r.is_previous, r.number, coalesce(s.end_at, h.hour) as hour,
    s.end_at is null and h.hour >= :hours_from as is_known
from (values
    ('24h', false, 1, 24), ('24h', true, 2, 48), ('7d', false, 3, 168), ('7d', true, 4, 336), ('30d', false, 5, 720),
    ('30d', true, 6, 1440)
) as r (period, is_previous, number, hours)
cross join lateral (
    select :this_hour ::timestamptz + interval '1 hour' - r.hours * interval '1 hour' as hour
) h
left join core.counted_span s on s.account_id = :account_id and s.start_at < h.hour and s.end_at > h.hour
