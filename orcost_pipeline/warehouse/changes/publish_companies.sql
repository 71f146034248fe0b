-- The attributes of companies become those of the list, where they differ; a company that it lacks has none.
with listed as (
    select *, true as is_listed
    from listed_company
    union all
    select c.company, null, null, null, null, null, null, false
    from ref.company c
    where not exists (select from listed_company t where t.company = c.company)
)
insert into ref.company (
    company, display_name, external_id, cost_centre, owner_email, currency, monthly_budget_usd, is_listed
)
select * from listed
except
select company, display_name, external_id, cost_centre, owner_email, currency, monthly_budget_usd, is_listed
from ref.company
on conflict (company) do update
    set display_name = excluded.display_name, external_id = excluded.external_id, cost_centre = excluded.cost_centre,
        owner_email = excluded.owner_email, currency = excluded.currency,
        monthly_budget_usd = excluded.monthly_budget_usd, is_listed = excluded.is_listed
