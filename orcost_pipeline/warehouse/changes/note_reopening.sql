-- Of a month that was closed for all, one company is opened again by a closing of its own, which is newer.
with reopened as (
    update ops.period_close
    set reopened_at = :at, reopened_by = :who, reason = :reason
    where month = :month and reopened_at is null and (cast(:company as text) is null or company = :company)
)
insert into ops.period_close (
    month, company, closed_at, closed_by, accepted, as_of, mapping_version, plan_version, reopened_at, reopened_by, reason
)
select month, :company, closed_at, closed_by, accepted, as_of, mapping_version, plan_version, :at, :who, :reason
from ops.period_close
where month = :month and company is null and reopened_at is null and cast(:company as text) is not null
order by id desc
limit 1
