-- Every view and function in the warehouse's schemas, with its owner and, of a view, its columns; names quoted.
select 'view' as kind, c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name,
    cast(null as text) as arguments, quote_ident(pg_get_userbyid(c.relowner)) as owner,
    array(select quote_ident(attname) from pg_attribute where attrelid = c.oid and attnum > 0) as columns
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'v' and n.nspname = any(:schemas)
union all
select 'function', p.oid, quote_ident(n.nspname) || '.' || quote_ident(p.proname), oidvectortypes(p.proargtypes),
    quote_ident(pg_get_userbyid(p.proowner)), '{}'
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where p.prokind = 'f' and n.nspname = any(:schemas)
