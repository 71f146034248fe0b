-- Dagster's daemons that schedule, launch and watch runs, whose last heartbeat is older than an instant, unless
-- syncs came in without them since.
select h.daemon_type as name, 'silent' as state, h.at as since
from (
    select daemon_type, to_timestamp(cast(cast(body as json) ->> 'timestamp' as numeric)) as at
    from dagster.daemon_heartbeats
    where daemon_type in ('SCHEDULER', 'SENSOR', 'QUEUED_RUN_COORDINATOR')
) h
where h.at < :before
    and not exists (
        select from ops.sync_run r
        where r.status = 'succeeded' and r.started_at > h.at + interval '65 minutes'
    )
order by h.at
