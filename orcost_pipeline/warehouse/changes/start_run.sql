-- The run, once.
insert into ops.sync_run (run_id, account, request_id, started_at, status)
values (:run_id, :account, :request_id, :now, 'running')
on conflict do nothing
