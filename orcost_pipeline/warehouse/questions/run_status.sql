select status
from ops.sync_run
where run_id = :run_id and account = :account
