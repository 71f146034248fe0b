-- One row per right that is not as it should be: a role of orcost access, a login that is a member of one, or everybody
-- (public) has it and should not (is_held), or a role lacks it. Nothing where no such role has rights in this database.
--
-- :login is looked at as a member of :roles, which it is to become. is_renewed: upgrades mend it by the statement.
with recursive role (name, schema_name) as (
    values ('orcost_reader', 'marts'), ('orcost_viewer', 'viewer'), ('orcost_may_sync', 'ops')
), used_role as (
    -- Roles are the server's, rights are a database's.
    select r.name, to_regrole(r.name)::oid as oid
    from role r
    where r.name = any(:roles) or exists (
        select
        from pg_namespace n
        cross join aclexplode(n.nspacl) g
        where n.nspname = r.schema_name and g.grantee = to_regrole(r.name)
    )
), member (oid, role) as (
    select oid, name
    from used_role
    where oid is not null
    union
    select r.oid, u.name
    from pg_roles r
    cross join used_role u
    where r.rolname = cast(:login as text) and u.name = any(:roles)
    union
    -- From Postgres 16 on, who makes a role may grant it, and is not thereby a member that uses it.
    select a.member, m.role
    from member m
    join pg_auth_members a on a.roleid = m.oid
    where coalesce((to_jsonb(a) ->> 'inherit_option')::boolean, true)
        or coalesce((to_jsonb(a) ->> 'set_option')::boolean, true)
), grantee as (
    select m.oid, r.rolname::text as name, quote_ident(r.rolname) as quoted, bool_or(m.role = 'orcost_viewer') as is_viewer,
        r.rolname in (select name from role) as is_role
    from member m
    join pg_roles r on r.oid = m.oid
    group by m.oid, r.rolname
    union all
    select 0, 'public', 'public', 'orcost_viewer' in (select name from used_role), false
), namespace as (
    select n.oid, n.nspname::text as schema_name,
        n.nspname in ('raw', 'ref', 'core', 'marts', 'ops', 'viewer', 'dagster') as is_ours,
        n.nspname = 'information_schema' or n.nspname like 'pg\_%' as is_system
    from pg_namespace n
), object as (
    -- is_safe: what it shows or does is the administrator's choice, or what its caller may see and do anyway.
    select 'database' as kind, d.oid, cast(null as text) as schema_name, quote_ident(d.datname) as name,
        cast(null as text) as column_name, coalesce(d.datacl, acldefault('d', d.datdba)) as acl, d.datdba as owner,
        false as is_ours, false as is_system, false as is_safe, false as is_recorded, false as is_immutable
    from pg_database d
    where d.datname = current_database()
    union all
    select 'schema', n.oid, s.schema_name, quote_ident(n.nspname), null, coalesce(n.nspacl, acldefault('n', n.nspowner)),
        n.nspowner, s.is_ours, s.is_system, false, false, false
    from pg_namespace n
    join namespace s on s.oid = n.oid
    union all
    select case c.relkind when 'S' then 'sequence' else 'table' end, c.oid, s.schema_name,
        format('%I.%I', s.schema_name, c.relname), quote_ident(k.attname),
        coalesce(k.attacl, c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)),
        c.relowner, s.is_ours, s.is_system, e.is_extension, o.name is not null, false
    from pg_class c
    join namespace s on s.oid = c.relnamespace
    cross join lateral (
        select null::name as attname, null::aclitem[] as attacl
        union all
        select a.attname, a.attacl from pg_attribute a where a.attrelid = c.oid and a.attacl is not null
    ) k
    cross join lateral (
        select exists (
            select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
        ) as is_extension
    ) e
    left join ops.schema_object o on o.name = s.schema_name || '.' || c.relname
    where c.relkind in ('r', 'v', 'm', 'p', 'f', 'S')
    union all
    select case p.prokind when 'p' then 'procedure' else 'function' end, p.oid, s.schema_name, p.oid::regprocedure::text,
        null, coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner, s.is_ours, s.is_system,
        not s.is_ours and (not p.prosecdef or exists (
            select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
        )), o.name is not null, p.provolatile = 'i'
    from pg_proc p
    join namespace s on s.oid = p.pronamespace
    left join ops.schema_object o
        on o.name = s.schema_name || '.' || p.proname and o.arguments = oidvectortypes(p.proargtypes)
    -- A function of the system that nobody changed has no right below that counts, and there are thousands of them.
    where not s.is_system or p.proacl is not null
), due (role, privilege, kind, oid) as (
    select r.name, d.privilege, o.kind, o.oid
    from used_role r
    cross join object o
    cross join lateral (
        select case o.kind when 'schema' then 'USAGE' when 'table' then 'SELECT' else 'EXECUTE' end as privilege
    ) d
    where o.column_name is null and case r.name || ' ' || o.kind
        when 'orcost_reader schema' then o.schema_name in ('ref', 'core', 'marts', 'ops')
        when 'orcost_reader table' then o.schema_name in ('ref', 'marts', 'ops') or o.name like 'core.spend\_%'
        when 'orcost_reader function' then o.is_recorded
            and (o.schema_name = 'marts' or (o.schema_name = 'core' and o.is_immutable))
        when 'orcost_viewer schema' then o.schema_name = 'viewer'
        when 'orcost_viewer table' then o.schema_name = 'viewer' and o.is_recorded
        -- What a view calls is called by who reads it.
        when 'orcost_viewer function' then o.is_recorded and o.schema_name = 'core' and o.is_immutable
        when 'orcost_may_sync schema' then o.schema_name = 'ops'
        when 'orcost_may_sync function' then o.is_recorded and o.name like 'ops.request\_sync(%'
        else false
    end
), held as (
    select g.name as grantee, g.quoted, g.is_role, a.privilege_type as privilege, o.*
    from object o
    cross join lateral aclexplode(o.acl) a
    join grantee g on g.oid = a.grantee
    where a.grantee <> o.owner
        and (o.is_ours or a.privilege_type in ('CREATE', 'TEMPORARY') or g.is_viewer)
        and not (o.kind = 'database' and a.privilege_type = 'CONNECT')
        and not (o.kind = 'schema' and a.privilege_type = 'USAGE' and not o.is_ours)
        and not (g.oid = 0 and o.is_system)
        and not (o.is_safe and not o.is_system)
), differing as (
    select h.grantee, lower(h.privilege) || coalesce(' (' || h.column_name || ')', '') as privilege, h.kind, h.name,
        true as is_held,
        (h.is_ours and h.is_role or h.grantee = 'public' and h.is_recorded and h.privilege = 'EXECUTE')
            and pg_has_role(h.owner, 'usage') as is_renewed,
        -- The user of the syncs may have the right to make temporary tables from public alone.
        case when h.grantee = 'public' and h.privilege = 'TEMPORARY'
            then (
                select format('grant temporary on database %s to %s; ', h.name, quote_ident(pg_get_userbyid(c.relowner)))
                from pg_class c
                where c.oid = 'ref.account'::regclass
            ) else '' end || format(
            'revoke %s%s on %s %s from %s', lower(h.privilege), ' (' || h.column_name || ')', h.kind, h.name, h.quoted
        ) as statement
    from held h
    where not exists (
        select
        from due d
        where d.role = h.grantee and d.kind = h.kind and d.oid = h.oid and d.privilege = h.privilege
            and h.column_name is null
    )
    union all
    select d.role, lower(d.privilege), d.kind, o.name, false, pg_has_role(o.owner, 'usage'),
        format('grant %s on %s %s to %s', lower(d.privilege), d.kind, o.name, d.role)
    from due d
    join object o on o.kind = d.kind and o.oid = d.oid and o.column_name is null
    where not exists (
        select
        from aclexplode(o.acl) a
        where a.grantee = to_regrole(d.role) and a.privilege_type = d.privilege
    )
    union all
    select g.name, 'connect', o.kind, o.name, false, false,
        format('grant connect on database %s to %s', o.name, g.quoted)
    from grantee g
    join object o on o.kind = 'database' and not g.is_role and g.oid <> 0
        and not has_database_privilege(g.oid, o.oid, 'connect')
    union all
    select g.name, t.attribute, null, null, true, false, format('alter role %s no%s', g.quoted, t.attribute)
    from grantee g
    join pg_roles r on r.oid = g.oid
    cross join lateral (
        values ('superuser', r.rolsuper), ('bypassrls', r.rolbypassrls), ('createrole', r.rolcreaterole),
            ('replication', r.rolreplication)
    ) t (attribute, is_set)
    where t.is_set
    union all
    select g.name, 'member', 'role', quote_ident(r.rolname), true, false,
        format('revoke %I from %s', r.rolname, g.quoted)
    from grantee g
    join pg_auth_members a on a.member = g.oid
    join pg_roles r on r.oid = a.roleid
    where r.rolname not in (select name from role) or g.is_role or (g.is_viewer and r.rolname <> 'orcost_viewer')
    union all
    select g.name, 'owner', o.kind, o.name, true, false, null
    from grantee g
    join object o on o.owner = g.oid and o.column_name is null and not o.is_system
    union all
    select 'orcost_viewer', 'select without security_barrier', 'table', o.name, true, false,
        format('alter view %s set (security_barrier)', o.name)
    from object o
    join pg_class c on c.oid = o.oid and not coalesce('security_barrier=true' = any(c.reloptions), false)
    where o.kind = 'table' and o.schema_name = 'viewer' and o.is_recorded
)
select grantee, privilege, concat_ws(' ', kind, name) as object, is_held, is_renewed, statement,
    concat_ws(' ', grantee, privilege, kind, name) as told
from differing
where is_renewed or exists (select from used_role)
order by kind is not null, array_position(array['role', 'database', 'schema', 'table', 'sequence', 'function'], kind),
    name, grantee, privilege
