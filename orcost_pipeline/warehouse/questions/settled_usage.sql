select u.*, m.model
from core.usage_daily u
join core.model m using (model_id)
join core.account_day d using (account_id, day)
where u.account_id = :account_id and u.day >= :first and u.day <> all(cast(:doubted as date[])) and d.is_settled
