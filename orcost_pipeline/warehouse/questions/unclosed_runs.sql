select run_id
from ops.sync_run
where status = 'running'
