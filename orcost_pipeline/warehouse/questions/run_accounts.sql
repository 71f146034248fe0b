select run_id, account
from ops.sync_run
where run_id = any(:run_ids)
union
select run_id, account
from raw.extraction
where run_id = any(:run_ids)
