-- One row per UTC month and company whose month is closed: the closing in force, which is the first one that covers
-- the company since its month was last opened again.
create or replace view core.closed as
select distinct on (month, company_id) month, company_id, closed_at, as_of, mapping_version, plan_version
from (
    select p.id, p.month, c.company_id, p.closed_at, p.as_of, p.mapping_version, p.plan_version, p.reopened_at,
        max(p.id) filter (where p.reopened_at is not null) over (partition by p.month, c.company_id) as reopened_id
    from ops.period_close p
    join ref.company c on p.company is null or p.company = c.company
) about
where reopened_at is null and id > coalesce(reopened_id, 0)
order by month, company_id, id;
