-- The published run. What was noted while it ran, such as a refused mapping, stays; a wrong note that it died is
-- cleared.
update ops.sync_run
set status = 'succeeded', finished_at = :now, as_of = :as_of, rows_written = :rows,
    error = case when status = 'running' then error end
where run_id = :run_id and account = :account
