-- All functions in the warehouse's schemas, and where the catalogue has the newest version of each.
select n.nspname || '.' || p.proname as name, oidvectortypes(p.proargtypes) as arguments,
    cast(p.ctid as text) as written
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname = any(:schemas)
