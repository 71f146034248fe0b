select count(*) as sessions from pg_stat_activity where usename = cast(:login as text)
