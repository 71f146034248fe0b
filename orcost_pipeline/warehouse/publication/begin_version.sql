-- The version of a key whose attributes changed begins now.
insert into core.api_key_version (
    key_id, valid_from, name, label, workspace_id, workspace_name, creator_user_id, creator_email, external_user,
    is_disabled, is_deleted, expires_at, limit_usd, limit_reset, include_byok_in_limit
)
select key_id, :as_of, name, label, workspace_id, workspace_name, creator_user_id, creator_email, external_user,
    is_disabled, is_deleted, expires_at, limit_usd, limit_reset, include_byok_in_limit
from staged_api_key_version
