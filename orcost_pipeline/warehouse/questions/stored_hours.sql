select u.*, k.key_hash, m.model
from core.usage_hourly u
join core.model m using (model_id)
left join core.api_key k using (key_id)
where u.account_id = :account_id and u.hour >= :start and u.hour < :end
