-- The account, complete up to this extraction.
update ref.account a
set kind = case when r.is_management_key then 'management' else 'ordinary' end,
    status = 'ok',
    error = null,
    error_code = null,
    organization_id = coalesce(r.organization_id, a.organization_id),
    confirmed_at = null,
    rebuild_at = case when not :is_rebuild then a.rebuild_at end,
    as_of = :as_of,
    hours_from = :hours_from,
    full_pass_at = coalesce(
        (
            select e.as_of from raw.extracted e
            where e.run_id = :extraction_id and e.account = :account and e.relation = 'full_pass'
        ),
        a.full_pass_at
    ),
    published_run_id = :extraction_id,
    workspaces_refused_since = case when t.no_workspaces then coalesce(a.workspaces_refused_since, :as_of) end,
    members_refused_since = case when t.no_members then coalesce(a.members_refused_since, :as_of) end,
    credits_total_usd = r.credits_total_usd,
    credits_used_usd = r.credits_used_usd
from raw.account r
cross join (
    select coalesce(bool_or(relation = 'workspaces_refused'), false) as no_workspaces,
        coalesce(bool_or(relation = 'members_refused'), false) as no_members
    from raw.extracted
    where run_id = :extraction_id and account = :account
) t
where a.account_id = :account_id and r.run_id = :extraction_id and r.account = :account
