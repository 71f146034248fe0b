select key_hash, activity_read_at
from core.api_key
where account_id = :account_id
