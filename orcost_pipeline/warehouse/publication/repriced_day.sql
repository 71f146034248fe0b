-- Days with usage under a changed price are rebuilt. A model that a company had not used before has usage on touched days
-- only.
insert into touched_day
select distinct u.day
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
join touched_price p on p.company_id = s.company_id and p.model_id = u.model_id
    and u.day >= p.valid_from and u.day < p.valid_to
where u.account_id = :account_id
