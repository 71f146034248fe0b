-- Closes a run that did not close itself.
update ops.sync_run
set status = :status, finished_at = :now, error = :error
where run_id = :run_id and status = 'running'
