-- The last good sync, and the first hour known since the last pause that was too long for hours to reach back over.
with syncs as (
    select as_of, date_trunc('hour', as_of, 'UTC') - cast(:reach as interval) as reported_from, lag(as_of) over (order by as_of) as before
    from ops.sync_run
    where account = :account and status = 'succeeded' and as_of <= :now
)
select max(as_of) as as_of, max(reported_from) filter (where before is null or before < reported_from) as reported_from
from syncs
