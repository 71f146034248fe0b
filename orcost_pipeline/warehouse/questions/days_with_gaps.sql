-- Only days up to the account's as_of count.
select g.day::date as day
from ref.account a
cross join generate_series(
    cast(:first as date)::timestamp, cast(:last as date) - interval '1 day', interval '1 day'
) as g (day)
left join core.account_day d on d.account_id = a.account_id and d.day = g.day::date
where d.day is null and g.day at time zone 'UTC' <= a.as_of
    and (cast(:account as text) is null or a.account = :account)
group by g.day
order by g.day
