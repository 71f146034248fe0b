-- Requests for a sync that wait together are served by one run for each account.

alter table ops.sync_request
    add column run_ids text[] not null default '{}',
    add column served_with jsonb not null default '{}';

-- Until now each request had runs of its own.
update ops.sync_request r
set served_with = coalesce(
    (
        select jsonb_object_agg(a.account, r.id)
        from ref.account a
        where r.account is null or a.account = r.account
    ),
    '{}'
)
where r.status = 'running';

-- What is not finished is looked for every few seconds.
create index sync_request_unfinished on ops.sync_request (id) where status in ('queued', 'running');
create index sync_run_running on ops.sync_run (account) where status = 'running';
create index sync_run_request on ops.sync_run (request_id) where request_id is not null;

-- What is kept for some time only.
create index sync_request_finished on ops.sync_request (finished_at) where finished_at is not null;
create index alert_resolved on ops.alert (resolved_at) where resolved_at is not null;
