-- HTTP requests of a run, added to those before.
update ops.sync_run
set requests_made = requests_made + :requests_made
where run_id = :run_id and account = :account
