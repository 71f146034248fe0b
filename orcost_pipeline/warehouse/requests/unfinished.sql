-- Requests that are queued or running, those in the same state as one row.
select account, status, served_with, run_ids, array_agg(id order by id) as ids, min(since) as since
from ops.sync_request
where status in ('queued', 'running')
group by account, status, served_with, run_ids
order by min(id)
