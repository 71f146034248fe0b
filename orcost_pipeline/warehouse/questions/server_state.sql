select current_user::text as "user", current_database()::text as database,
    current_setting('server_version_num')::int / 10000 as major, pg_is_in_recovery() as is_standby,
    current_setting('transaction_read_only')::bool as is_read_only,
    (select sum(numbackends)::int from pg_stat_database) as connections,
    current_setting('max_connections')::int as max_connections,
    current_setting('server_encoding') as encoding,
    has_database_privilege(current_database(), 'create')
        or (select count(*) = cardinality(cast(:schemas as text[])) from pg_namespace where nspname = any(:schemas))
        as may_create,
    bool_and(has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')) as may_read,
    bool_and(
        has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')
            and has_table_privilege(c.oid, 'delete')
    ) filter (where c.relkind = 'r') as may_write
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'v') and n.nspname in ('ref', 'core', 'marts', 'ops')
