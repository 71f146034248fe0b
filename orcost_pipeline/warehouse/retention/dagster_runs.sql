-- Runs of Dagster, with their tags, events and verdicts of checks.
with runs as (
    delete from dagster.runs
    where run_id = any(:run_ids) and status in ('SUCCESS', 'FAILURE', 'CANCELED')
    returning run_id
), events as (
    delete from dagster.event_logs e
    using runs r
    where e.run_id = r.run_id
    returning e.id
), tags as (
    delete from dagster.asset_event_tags t
    using events e
    where t.event_id = e.id
), verdicts as (
    delete from dagster.asset_check_executions c
    using runs r
    where c.run_id = r.run_id
)
select (select count(*) from runs) as runs, (select count(*) from events) as events
