update ops.sync_request
set status = 'failed', error = :error, finished_at = :now
where status in ('queued', 'running') and account = :account
