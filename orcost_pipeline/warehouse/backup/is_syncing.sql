select exists (
    select from pg_locks
    where locktype = 'advisory' and classid = :kind and objsubid = 2 and granted
        and database = (select oid from pg_database where datname = current_database())
) as is_syncing
