-- One row per login that may see something in this database as a member of a role of orcost access. The roles are the
-- server's: a viewer has companies here, or was made for this database; readers read here where their role does. From
-- Postgres 16 on, who makes a role may grant it, and is not thereby a member that uses it.
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
where case
    when a.is_viewer then exists (select from ref.viewer v where v.login = r.rolname::text)
        or shobj_description(r.oid, 'pg_authid') = :mark
    else has_schema_privilege(r.oid, 'marts', 'usage') and has_database_privilege(r.oid, current_database(), 'connect')
end
order by 1
