-- One row per account, API key and period in which no attribute of the key changed.
create or replace view ref.api_key_history as
select
    a.account, k.key_hash, v.valid_from, v.valid_to, v.name, v.label, v.workspace_id, v.workspace_name,
    v.creator_user_id, v.creator_email, v.external_user, v.is_disabled, v.is_deleted, v.expires_at, v.limit_usd,
    v.limit_reset, v.include_byok_in_limit
from core.api_key_version v
join core.api_key k using (key_id)
join ref.account a using (account_id);
