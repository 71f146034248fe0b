-- One row per UTC month and company whose month is closed, by the newest closing that is about it.
create or replace view core.closed as
select month, company_id, closed_at, as_of, mapping_version, plan_version
from (
    select distinct on (p.month, c.company_id) p.month, c.company_id, p.closed_at, p.as_of, p.mapping_version,
        p.plan_version, p.reopened_at
    from ops.period_close p
    join ref.company c on p.company is null or p.company = c.company
    order by p.month, c.company_id, p.id desc
) newest
where reopened_at is null;
