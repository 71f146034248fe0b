-- UTC months of touched days are built again.
insert into touched_month
select distinct date_trunc('month', day::timestamp)::date
from touched_day
