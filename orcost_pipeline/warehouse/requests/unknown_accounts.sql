-- The accounts that unfinished requests name and that are none of the configured ones.
select distinct account
from ops.sync_request
where status in ('queued', 'running') and account <> all(cast(:configured as text[]))
