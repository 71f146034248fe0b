-- Days with usage under a changed owner are rebuilt.
insert into touched_day
select distinct u.day
from core.usage_daily u
join touched_assignment t using (key_id)
where u.account_id = :account_id and u.day >= t.valid_from and u.day < t.valid_to
