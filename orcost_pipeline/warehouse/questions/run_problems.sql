select error
from ops.sync_run
where run_id = any(:run_ids) and error is not null
order by account
