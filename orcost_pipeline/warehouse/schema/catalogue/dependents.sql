-- What stands on a view or function, deepest first. In the catalogue a view depends on another by its rule _RETURN, and a
-- function on the type of a view's rows.
with recursive dependent as (
    select cast(:catalogue as regclass)::oid as classid, cast(:target as oid) as objid, 0 as objsubid, 0 as depth
    union
    select coalesce(case when r.oid is not null then 'pg_class'::regclass::oid end, p.classid),
        coalesce(r.ev_class, p.objid), case when r.oid is null then p.objsubid else 0 end, d.depth + 1
    from dependent d
    join pg_depend p on p.refclassid = d.classid and p.refobjid = d.objid
    left join pg_rewrite r on p.classid = 'pg_rewrite'::regclass and r.oid = p.objid and r.rulename = '_RETURN'
    where d.objsubid = 0 and r.ev_class is distinct from d.objid
)
select i.type as kind, i.identity, n.nspname || '.' || f.proname as function_name,
    oidvectortypes(f.proargtypes) as arguments, max(d.depth) as depth
from dependent d
cross join lateral pg_identify_object(d.classid, d.objid, d.objsubid) i
left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
left join pg_proc f on d.classid = 'pg_proc'::regclass and f.oid = d.objid
left join pg_namespace n on n.oid = f.pronamespace
where d.depth > 0 and d.classid <> 'pg_type'::regclass and coalesce(c.relkind not in ('i', 't'), true)
group by 1, 2, 3, 4
order by max(d.depth) desc
