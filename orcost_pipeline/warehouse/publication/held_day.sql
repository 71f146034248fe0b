-- One row per UTC day whose usage, owners or holders changed.
create temporary table held_day on commit drop as
select day
from touched_day
union
select u.day
from core.usage_daily u
join touched_holder t on t.key_id = u.key_id and u.day >= t.first_day and u.day < t.end_day
where u.account_id = :account_id
