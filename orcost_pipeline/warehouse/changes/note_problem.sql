-- A problem that a person should correct although the run goes on.
update ops.sync_run set error = :problem where run_id = :run_id
