select distinct k.key_hash
from core.usage_daily u
join core.api_key k using (key_id)
where u.account_id = :account_id and u.day = any(:days)
