-- A column that a view shows cannot change its type: views go, those that users built on ours too, and come back as they were.
create temporary table kept_view on commit drop as
with recursive narrow as (
    select a.attrelid
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
    join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('ref', 'core')
    where a.attname = 'account_id' and a.atttypid = 'smallint'::regtype
), dependent as (
    select r.ev_class as oid, 1 as depth
    from narrow t
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.attrelid
    join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
    union
    select r.ev_class, p.depth + 1
    from dependent p
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = p.oid
    join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid and r.ev_class <> p.oid
)
select c.oid, max(p.depth) as depth, c.oid::regclass::text as name, c.relkind, pg_get_viewdef(c.oid) as definition,
    c.reloptions, c.relacl, c.relowner
from dependent p
join pg_class c using (oid)
group by c.oid;

create temporary table kept_comment on commit drop as
select k.name, a.attname, d.description
from kept_view k
join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = k.oid
left join pg_attribute a on a.attrelid = k.oid and a.attnum = d.objsubid and d.objsubid > 0;

do $$
declare
    kept record;
begin
    select * into kept from kept_view where relkind <> 'v' limit 1;
    if found then
        raise exception 'The materialized view % reads the warehouse''s tables. Drop it, migrate, and make it again.', kept.name;
    end if;
    for kept in select * from kept_view order by depth desc loop
        execute format('drop view %s', kept.name);
    end loop;
end $$;

alter table ref.account alter account_id type integer;

do $$
declare
    narrow record;
begin
    for narrow in
        select a.attrelid::regclass as name
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
        join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('ref', 'core')
        where a.attname = 'account_id' and a.atttypid = 'smallint'::regtype
    loop
        execute format('alter table %s alter account_id type integer', narrow.name);
    end loop;
end $$;

do $$
declare
    definition text := replace(pg_get_functiondef('core.known_span'::regproc), 'account_id smallint', 'account_id integer');
    kept record;
    held record;
begin
    drop function core.known_span;
    execute definition;
    for kept in select * from kept_view order by depth loop
        execute format(
            'create view %s %s as %s', kept.name,
            'with (' || nullif(array_to_string(kept.reloptions, ', '), '') || ')', kept.definition
        );
        execute format('alter view %s owner to %I', kept.name, pg_get_userbyid(kept.relowner));
        for held in
            select privilege_type, is_grantable, case grantee when 0 then 'public' else grantee::regrole::text end as grantee
            from aclexplode(kept.relacl) where grantee <> kept.relowner
        loop
            execute format(
                'grant %s on %s to %s %s', held.privilege_type, kept.name, held.grantee,
                case when held.is_grantable then 'with grant option' end
            );
        end loop;
    end loop;
    for kept in select * from kept_comment loop
        execute format(
            'comment on %s %s is %L', case when kept.attname is null then 'view' else 'column' end,
            concat_ws('.', kept.name, quote_ident(kept.attname)), kept.description
        );
    end loop;
    for kept in
        select pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname) as sequence,
            c.oid::regclass as name, a.attname
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid
        join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('ref', 'core')
        where a.attidentity <> ''
    loop
        execute format('select setval(%L, max(%I), true) from %s having max(%2$I) > 0', kept.sequence, kept.attname, kept.name);
    end loop;
end $$;
