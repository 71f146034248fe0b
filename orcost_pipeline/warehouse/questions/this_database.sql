-- One row: the database, who owns the warehouse's tables, what everybody may do there, and the comment on logins that
-- orcost access makes for it.
select d.datname::text as database, current_setting('server_version_num')::integer / 10000 as major,
    pg_get_userbyid(c.relowner)::text as owner, coalesce(bool_or(g.privilege_type = 'CONNECT'), false) as is_open,
    coalesce(bool_or(g.privilege_type = 'TEMPORARY'), false) as is_temporary_open,
    format('Made by orcost access for the database "%s".', d.datname) as mark
from pg_database d
join pg_class c on c.oid = 'ref.account'::regclass
left join lateral (
    select a.privilege_type from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a where a.grantee = 0
) g on true
where d.datname = current_database()
group by d.datname, c.relowner
