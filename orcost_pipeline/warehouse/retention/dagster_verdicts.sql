-- Verdicts of checks from before an instant that belong to no run, except the newest of each check.
delete from dagster.asset_check_executions c
where c.create_timestamp < cast(:before as timestamptz) at time zone 'UTC'
    and not exists (select from dagster.runs r where r.run_id = c.run_id)
    and c.id not in (
        select max(id)
        from dagster.asset_check_executions
        group by asset_key, check_name, partition
    )
