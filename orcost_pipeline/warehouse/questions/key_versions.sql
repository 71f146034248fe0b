select account, key_hash, valid_from, name, label, workspace_id, workspace_name, creator_user_id, creator_email,
    external_user
from ref.api_key_history
where cast(:account as text) is null or account = :account
order by account, key_hash, valid_from
