-- Runs that Dagster should have started before an instant: queued ones whose account has no other run in progress, and
-- retries of failed runs.
select run.run_id as name, 'queued' as state, run.create_timestamp at time zone 'UTC' as since
from dagster.runs run
where run.status in ('QUEUED', 'NOT_STARTED') and run.create_timestamp < cast(:before as timestamptz) at time zone 'UTC'
    and not exists (
        select from dagster.run_tags tag
        join dagster.run_tags other on other.key = tag.key and other.value = tag.value and other.run_id <> tag.run_id
        join dagster.runs busy on busy.run_id = other.run_id and busy.status in ('STARTING', 'STARTED', 'CANCELING')
        where tag.run_id = run.run_id and tag.key = 'dagster/partition'
    )
union all
select run.run_id, 'retry', to_timestamp(run.end_time)
from dagster.runs run
join dagster.run_tags tag on tag.run_id = run.run_id and tag.key = 'dagster/will_retry' and tag.value = 'true'
where run.status = 'FAILURE' and to_timestamp(run.end_time) < :before
    and not exists (
        select from dagster.run_tags child
        where child.key = 'dagster/parent_run_id' and child.value = run.run_id
    )
    and not exists (
        select from dagster.runs later
        join dagster.run_tags of_account on of_account.run_id = later.run_id and of_account.key = 'dagster/partition'
        join dagster.run_tags its on its.run_id = run.run_id and its.key = of_account.key
            and its.value = of_account.value
        where later.status = 'SUCCESS' and later.create_timestamp > run.create_timestamp
    )
order by since
