-- A transaction that only holds a lock is idle for as long as a sync takes. Postgres 17 has the second of these.
select set_config(name, '0', true)
from pg_settings
where name in ('idle_in_transaction_session_timeout', 'transaction_timeout')
