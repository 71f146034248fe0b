select coalesce(substring(a.query from '''orcost up: (.*)'''), 'one that this database user may not see') as holder
from pg_locks l
left join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.classid = :kind
    and l.objid = cast(cast(hashtext(:name) as bit(32)) as bigint) and l.objsubid = 2 and l.granted
    and l.database = (select oid from pg_database where datname = current_database())
