-- What readers see, as the catalogue has it: relations, then functions, with a row for each column of what they hold or
-- return.
select s.relation, s.comment, a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
    col_description(a.attrelid, a.attnum) as description
from (
    select n.nspname as schema, 1 as place, n.nspname || '.' || c.relname as relation,
        obj_description(c.oid, 'pg_class') as comment, c.oid as attrelid
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'v') and (n.nspname <> 'core' or c.relname like 'spend\_%%')
    union all
    select n.nspname, 2, n.nspname || '.' || p.proname || '(' || pg_get_function_arguments(p.oid) || ')',
        obj_description(p.oid, 'pg_proc'), t.typrelid
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    join pg_type t on t.oid = p.prorettype
    where n.nspname <> 'core'
) s
left join pg_attribute a on a.attrelid = s.attrelid and a.attnum > 0 and not a.attisdropped
where s.schema = any(%s) and s.comment is not null
order by array_position(%s, s.schema), s.place, s.relation, a.attnum
