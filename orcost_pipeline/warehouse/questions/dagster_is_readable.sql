select has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') as is_readable
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'dagster' and c.relname = 'instigators'
