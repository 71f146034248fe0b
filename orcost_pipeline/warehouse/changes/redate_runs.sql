-- Runs that a wrong clock dated into the future end before this one began: each would be the last until then.
update ops.sync_run r
set started_at = s.started_at - interval '1 second',
    finished_at = s.started_at - interval '1 second',
    as_of = case when r.as_of <= :now then r.as_of end
from ops.sync_run s
where s.run_id = :run_id and s.account = :account and r.account = s.account
    and r.run_id <> s.run_id and r.status <> 'running' and r.started_at > :wrong_from
