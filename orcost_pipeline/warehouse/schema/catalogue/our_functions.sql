-- The functions of orcost with their comments. A user's function may have the name of one, and other arguments.
select o.name, p.oid::regprocedure::text as signature, obj_description(p.oid, 'pg_proc') as comment
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join ops.schema_object o on o.name = n.nspname || '.' || p.proname and o.arguments = oidvectortypes(p.proargtypes)
