-- Events from before an instant that belong to no run, such as those of Dagster's daemons or of runs that were deleted,
-- except the newest of each asset, partition and kind.
with old as (
    select e.id
    from dagster.event_logs e
    where e.timestamp < cast(:before as timestamptz) at time zone 'UTC'
        and not exists (select from dagster.runs r where r.run_id = e.run_id)
        and e.id not in (
            select max(id)
            from dagster.event_logs
            where asset_key is not null
            group by asset_key, partition, dagster_event_type
        )
    order by e.id
    limit :count
), tags as (
    delete from dagster.asset_event_tags t
    using old
    where t.event_id = old.id
)
delete from dagster.event_logs e
using old
where e.id = old.id
