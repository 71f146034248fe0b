-- What a person should mend although the run goes on.
update ops.sync_run set error = :problem where run_id = :run_id
