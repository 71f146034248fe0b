select k.key_hash, k.deleted_at, v.workspace_id
from core.api_key k
join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
where k.account_id = :account_id
