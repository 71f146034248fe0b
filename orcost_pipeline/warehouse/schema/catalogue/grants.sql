-- Every privilege on views and functions, and on columns of views, by grantee; names quoted.
select held.kind, held.oid, held.column_name, g.privilege_type, g.is_grantable,
    case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end as grantee
from (
    select 'view' as kind, oid, cast(null as text) as column_name,
        coalesce(relacl, acldefault('r', relowner)) as acl
    from pg_class
    where relkind = 'v'
    union all
    select 'function', oid, null, coalesce(proacl, acldefault('f', proowner))
    from pg_proc
    union all
    select 'view', attrelid, quote_ident(attname), attacl
    from pg_attribute
    where attacl is not null and attnum > 0
) held
cross join aclexplode(held.acl) g
where held.oid = any(:oids)
