-- The columns of tables and views in the warehouse's schemas, with the comments that they and their relations have.
select n.nspname || '.' || c.relname as relation, c.relkind, a.attname,
    obj_description(c.oid, 'pg_class') as relation_comment, col_description(c.oid, a.attnum) as column_comment
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname = any(:schemas) and c.relkind in ('r', 'v') and c.relname <> 'schema_version'
