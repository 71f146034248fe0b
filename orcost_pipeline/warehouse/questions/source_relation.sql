select c.oid::regclass::text as name, pg_get_userbyid(c.relowner) as owner,
    current_setting('is_superuser')::bool as is_superuser,
    not o.rolsuper and (c.relkind <> 'r' or exists (
        select
        from pg_attribute a
        join pg_type t on t.oid = a.atttypid
        where a.attrelid = c.oid and a.attnum > 0 and t.typnamespace <> 'pg_catalog'::regnamespace
    )) as is_foreign_code,
    array(
        select a.attname::text
        from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ) as columns
from pg_class c
join pg_roles o on o.oid = c.relowner
-- A name without a schema is looked for in public.
where c.oid = to_regclass(:name)
