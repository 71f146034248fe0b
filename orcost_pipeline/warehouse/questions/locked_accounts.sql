select a.account
from unnest(cast(:accounts as text[])) as a (account)
join pg_locks l on l.locktype = 'advisory' and l.classid = :kind
    and l.objid = cast(cast(hashtext(a.account) as bit(32)) as bigint) and l.objsubid = 2 and l.granted
    and l.database = (select oid from pg_database where datname = current_database())
