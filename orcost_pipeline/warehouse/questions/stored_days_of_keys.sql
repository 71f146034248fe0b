select u.*, k.key_hash, m.model
from core.usage_daily u
join core.model m using (model_id)
join core.api_key k using (key_id)
where u.account_id = :account_id and u.day = any(:days) and k.key_hash = any(:key_hashes)
