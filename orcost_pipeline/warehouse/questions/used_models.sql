select distinct m.model
from core.usage_daily u
join core.model m using (model_id)
where u.day >= :first
order by m.model
