-- Finished runs of Dagster that ended before an instant, oldest first, except those that its pages show:
-- the newest of each job and partition, those with the newest materialization of an asset and partition and the newest
-- verdict of a check, and the runs that these retried.
with newest as (
    select distinct on (r.pipeline_name, p.value) r.run_id
    from dagster.runs r
    left join dagster.run_tags p on p.run_id = r.run_id and p.key = 'dagster/partition'
    order by r.pipeline_name, p.value, r.id desc
), materialization as (
    select e.run_id
    from (
        select max(id) as id
        from dagster.event_logs
        where asset_key is not null and dagster_event_type = 'ASSET_MATERIALIZATION'
        group by asset_key, partition
    ) n
    join dagster.event_logs e using (id)
), verdict as (
    select e.run_id
    from (
        select max(id) as id
        from dagster.asset_check_executions
        group by asset_key, check_name, partition
    ) n
    join dagster.asset_check_executions e using (id)
), shown as (
    select run_id
    from newest
    union
    select run_id
    from materialization
    union
    select run_id
    from verdict
    union
    select last_run_id
    from dagster.asset_keys
), kept as (
    select run_id
    from shown
    union
    select t.value
    from dagster.run_tags t
    join shown s on s.run_id = t.run_id
    where t.key in ('dagster/parent_run_id', 'dagster/root_run_id')
)
select r.run_id
from dagster.runs r
where r.status in ('SUCCESS', 'FAILURE', 'CANCELED')
    and coalesce(to_timestamp(r.end_time), r.update_timestamp at time zone 'UTC') < :before
    and not exists (select from kept k where k.run_id = r.run_id)
order by r.id
