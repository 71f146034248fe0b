-- Views and materialized views of other schemas that read relations of these, as `view bi.costs`.
select distinct i.type || ' ' || i.identity as told
from pg_depend d
join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
join pg_class v on v.oid = r.ev_class
join pg_namespace outside on outside.oid = v.relnamespace
join pg_class c on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid
join pg_namespace ours on ours.oid = c.relnamespace
cross join lateral pg_identify_object('pg_class'::regclass, v.oid, 0) i
where ours.nspname = any(:schemas) and outside.nspname <> all(:schemas)
order by 1
