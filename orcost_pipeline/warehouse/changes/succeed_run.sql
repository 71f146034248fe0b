-- The run that is published. What was noted while it ran stays, such as a refused mapping; that it died, if it did not,
-- does not.
update ops.sync_run
set status = 'succeeded', finished_at = :now, as_of = :as_of, rows_written = :rows,
    error = case when status = 'running' then error end
where run_id = :run_id and account = :account
