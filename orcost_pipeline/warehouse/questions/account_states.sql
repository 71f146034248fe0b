select a.account, a.kind, a.status, a.as_of, a.error, a.error_code,
    a.credits_total_usd - a.credits_used_usd as balance_usd, a.credits_total_usd,
    a.workspaces_refused_since, a.members_refused_since, least(a.hours_from, first.known_from) as known_from,
    a.hours_from, a.counted_from is not null as is_counted, success.finished_at as last_success_at,
    failure.finished_at as failing_since,
    last.status as last_run_status, last.error as last_run_error, last.finished_at as last_run_at
from ref.account a
cross join lateral (
    select min(d.day)::timestamp at time zone 'UTC' as known_from
    from core.account_day d
    where d.account_id = a.account_id
) first
cross join lateral (
    select max(r.finished_at) as finished_at, max(r.started_at) as started_at
    from ops.sync_run r
    where r.account = a.account and r.status = 'succeeded'
) success
cross join lateral (
    select min(r.finished_at) as finished_at
    from ops.sync_run r
    where r.account = a.account and r.status = 'failed'
        and r.started_at > coalesce(success.started_at, '-infinity')
) failure
left join lateral (
    select r.status, r.error, r.finished_at
    from ops.sync_run r
    where r.account = a.account and r.status <> 'running'
    order by r.started_at desc
    limit 1
) last on true
order by a.account
