-- The newest run of each account that served each of the requests.
select distinct on (request_id, account) request_id, account, run_id, status
from ops.sync_run
where request_id = any(cast(:request_ids as bigint[]))
order by request_id, account, started_at desc
