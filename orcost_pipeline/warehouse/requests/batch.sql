-- All requests that wait for an account are served together, led by the oldest.
with waiting as (
    select r.id, a.account, min(r.id) over (partition by a.account) as leader
    from ops.sync_request r
    join unnest(cast(:accounts as text[])) as a (account) on r.account is null or r.account = a.account
    where r.status in ('queued', 'running') and r.served_with -> a.account is null
), served as (
    select id, jsonb_object_agg(account, leader) as served_with
    from waiting
    group by id
)
update ops.sync_request r
set served_with = r.served_with || s.served_with
from served s
where r.id = s.id
