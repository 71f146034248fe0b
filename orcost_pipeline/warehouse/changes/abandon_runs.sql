-- Runs of the account that are still marked as running have died.
update ops.sync_run
set status = 'abandoned', finished_at = :now, error = :died
where account = :account and status = 'running' and run_id <> :run_id
