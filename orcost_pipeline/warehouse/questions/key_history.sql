select h.account, h.key_hash, h.valid_from, h.valid_to, h.name, h.workspace_name, h.creator_email, h.external_user,
    h.is_disabled, h.is_deleted, h.expires_at, h.limit_usd, h.limit_reset, h.include_byok_in_limit
from ref.api_key_history h
where cast(:account as text) is null or h.account = :account
order by h.account, min(h.valid_from) over (partition by h.account, h.key_hash), h.key_hash, h.valid_from
