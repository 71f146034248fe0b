-- The names of all relations in the warehouse's schemas.
select n.nspname || '.' || c.relname as name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(:schemas)
