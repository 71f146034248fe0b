-- One row per session: of the relations that it holds a view is named, which holds the tables below it too.
select a.pid, a.usename, nullif(a.application_name, '') as program,
    to_char(a.xact_start, 'YYYY-MM-DD HH24:MI') as since,
    (array_agg(l.relation::regclass::text order by c.relkind <> 'v', l.relation::regclass::text))[1] as relation
from pg_locks l
join pg_class c on c.oid = l.relation
join pg_namespace n on n.oid = c.relnamespace
join pg_stat_activity a on a.pid = l.pid
where l.granted and (l.mode = 'AccessExclusiveLock' or n.nspname || '.' || c.relname = any(:wanted))
    and l.database = (select oid from pg_database where datname = current_database())
    and n.nspname in ('raw', 'ref', 'core', 'marts', 'ops') and l.pid <> pg_backend_pid()
group by 1, 2, 3, 4
order by 1
