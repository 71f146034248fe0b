-- Requests that ended before an instant, except those that a run names.
delete from ops.sync_request r
where r.finished_at < :before and not exists (select from ops.sync_run s where s.request_id = r.id)
