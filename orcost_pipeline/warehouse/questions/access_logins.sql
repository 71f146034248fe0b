-- One row per login that is a member of a role of orcost access: what it may see. From Postgres 16 on, who makes a role may
-- grant it, and is not thereby a member that uses it.
select r.rolname::text as login, case when a.is_viewer then 'viewer' else 'reader' end as kind,
    array(select v.company from ref.viewer v where v.login = r.rolname::text order by 1) as companies, a.may_sync
from (
    select m.member, bool_or(g.rolname = 'orcost_viewer') as is_viewer, bool_or(g.rolname = 'orcost_may_sync') as may_sync
    from pg_auth_members m
    join pg_roles g on g.oid = m.roleid and g.rolname in ('orcost_reader', 'orcost_viewer', 'orcost_may_sync')
    where coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
    group by m.member
) a
join pg_roles r on r.oid = a.member
order by 1
