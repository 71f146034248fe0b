select key_hash, deleted_at
from ref.api_key
where account = :account and deleted_at is not null
