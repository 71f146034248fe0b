-- One row per API key whose attributes are not those of its current version: the version that starts now. It has the
-- columns of core.api_key_version, in their order, with the validity of the version that it follows.
create temporary table staged_api_key_version on commit drop as
with known_workspace as (
    select distinct on (v.workspace_id) v.workspace_id, v.workspace_name
    from core.api_key_version v
    join core.api_key k using (key_id)
    where k.account_id = :account_id and v.workspace_name is not null
    order by v.workspace_id, v.valid_from desc
), known_creator as (
    select distinct on (v.creator_user_id) v.creator_user_id, v.creator_email
    from core.api_key_version v
    join core.api_key k using (key_id)
    where k.account_id = :account_id and v.creator_email is not null
    order by v.creator_user_id, v.valid_from desc
), listed as (
    select
        -- Values that are blank, unreadable or no longer reported stay as stored.
        k.key_id, v.valid_from, v.valid_to, coalesce(r.name, v.name, r.label, '') as name,
        coalesce(r.label, v.label, '') as label, h.workspace_id,
        coalesce(
            w.workspace_name, case when v.workspace_id = h.workspace_id then v.workspace_name end, kw.workspace_name
        ) as workspace_name,
        r.creator_user_id,
        -- A creator who left the organization keeps the e-mail that is known.
        coalesce(
            m.email, case when v.creator_user_id = r.creator_user_id then v.creator_email end, kc.creator_email
        ) as creator_email,
        r.external_user, coalesce(r.is_disabled, v.is_disabled, false) as is_disabled, false as is_deleted,
        r.expires_at, r.limit_usd, r.limit_reset,
        coalesce(r.include_byok_in_limit, v.include_byok_in_limit, false) as include_byok_in_limit
    from raw.api_key r
    join core.api_key k on k.account_id = :account_id and k.key_hash = r.key_hash
    left join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
    cross join lateral (select coalesce(r.workspace_id, v.workspace_id) as workspace_id) h
    left join raw.workspace w on w.run_id = r.run_id and w.account = r.account and w.workspace_id = h.workspace_id
    left join raw.organization_member m
        on m.run_id = r.run_id and m.account = r.account and m.user_id = r.creator_user_id
    left join known_workspace kw on kw.workspace_id = h.workspace_id
    left join known_creator kc on kc.creator_user_id = r.creator_user_id
    where r.run_id = :extraction_id and r.account = :account and not r.is_deleted
    union all
    select
        v.key_id, v.valid_from, v.valid_to, v.name, v.label, v.workspace_id, v.workspace_name, v.creator_user_id,
        v.creator_email, v.external_user, v.is_disabled, true, v.expires_at, v.limit_usd, v.limit_reset,
        v.include_byok_in_limit
    from raw.api_key r
    join core.api_key k on k.account_id = :account_id and k.key_hash = r.key_hash
    join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
    where r.run_id = :extraction_id and r.account = :account and r.is_deleted
)
select t.*
from listed t
left join core.api_key_version v on v.key_id = t.key_id and v.valid_to is null
where row(t.*) is distinct from row(v.*)
