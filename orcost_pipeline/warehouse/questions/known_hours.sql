-- Counters may give only one sum for hours before and after an end of the window.
select a.account, greatest(:start, a.hours_from, max(c.end_at) filter (where c.start_at < :start)) as known_from,
    a.hours_from <= :start and count(c.end_at) = 0 as is_complete
from ref.account a
left join core.counted_span c on c.account_id = a.account_id
    and ((c.start_at < :start and c.end_at > :start) or (c.start_at < :end and c.end_at > :end))
where a.as_of is not null
group by a.account, a.hours_from
