select pg_terminate_backend(pid, 5000)
from pg_stat_activity
where usename = {name} and (pg_has_role(usesysid, 'usage') or pg_has_role('pg_signal_backend', 'usage'));
