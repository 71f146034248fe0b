-- A run that is not published failed.
update ops.sync_run
set status = 'failed', finished_at = :now, error = :error
where run_id = :run_id and account = :account and status <> 'succeeded'
