select u.*, k.key_hash, m.model
from core.usage_daily u
join core.model m using (model_id)
left join core.api_key k using (key_id)
where u.account_id = :account_id and u.day >= :first and u.day < :end
