-- One row: whether the database has a warehouse; if not, which schemas of its names hold something of somebody else, or
-- may not be used. One statement, thus one state of the catalogue: another process may be making the warehouse now.
select w.has_warehouse, array(
    select n.nspname::text
    from pg_namespace n
    where n.nspname = any(:schemas) and not w.has_warehouse
        and (
            not has_schema_privilege(n.oid, 'create') or not has_schema_privilege(n.oid, 'usage')
            or exists (
                select
                from pg_depend d
                where d.refclassid = 'pg_namespace'::regclass and d.refobjid = n.oid
                    and d.classid in ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass)
            )
        )
    order by 1
) as foreign_schemas
from (
    -- Both tables are made in one transaction, and no other program has both.
    select count(*) = 2 as has_warehouse
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid
    where (n.nspname, c.relname, a.attname) in
        (('ops', 'schema_version', 'version_num'), ('ref', 'account', 'account_id'))
) w
