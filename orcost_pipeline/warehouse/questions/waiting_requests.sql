select id, account, requested_at
from ops.sync_request
where status = 'queued' and requested_at < :before
order by requested_at
