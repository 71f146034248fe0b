-- Runs of syncs that ended before an instant, except those that something is still read from:
-- * the last run of an account, its last good one, and the first that failed since then (account_states.sql);
-- * the first and the last good one of each week, so that every pause in syncs stays known (good_sync.sql);
-- * those whose restatements are kept, whose rows are published, or whose raw rows are kept.
with good as (
    select account, run_id, started_at,
        row_number() over (partition by account, date_trunc('week', as_of, 'UTC') order by as_of, run_id) as nth,
        row_number() over (partition by account, date_trunc('week', as_of, 'UTC') order by as_of desc, run_id desc) as nth_last,
        row_number() over (partition by account order by started_at desc) as nth_newest
    from ops.sync_run
    where status = 'succeeded'
), last as (
    select distinct on (account) account, run_id
    from ops.sync_run
    where status <> 'running'
    order by account, started_at desc
), first_failed as (
    select distinct on (r.account) r.account, r.run_id
    from ops.sync_run r
    left join good g on g.account = r.account and g.nth_newest = 1
    where r.status = 'failed' and r.started_at > coalesce(g.started_at, '-infinity')
    order by r.account, r.finished_at
), kept as (
    select account, run_id
    from good
    where nth = 1 or nth_last = 1 or nth_newest = 1
    union all
    select account, run_id
    from last
    union all
    select account, run_id
    from first_failed
    union all
    select account, run_id
    from ops.restatement
    union all
    select account, published_run_id
    from ref.account
    union all
    select account, run_id
    from raw.extraction
)
delete from ops.sync_run r
where r.finished_at < :before and r.status <> 'running'
    and not exists (select from kept k where k.account = r.account and k.run_id = r.run_id)
