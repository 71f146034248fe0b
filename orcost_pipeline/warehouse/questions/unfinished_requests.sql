select id, account, since
from ops.sync_request
where status in ('queued', 'running')
order by id
limit 100
