-- One row per UTC day of a touched month.
create temporary table day_of_touched_month on commit drop as
select distinct d.day::date as day
from touched_month t
cross join generate_series(t.month::timestamp, t.month + interval '1 month' - interval '1 day', interval '1 day') as d (day)
