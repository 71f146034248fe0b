select distinct on (account) account, started_at
from ops.sync_run
where status = 'running'
order by account, started_at desc
