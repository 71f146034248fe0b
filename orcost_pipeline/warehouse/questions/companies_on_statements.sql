-- Names, ids and currencies for statements, from the list of companies in force; companies without any are left out.
select company, display_name, external_id, currency
from ref.company
where coalesce(display_name, external_id, currency) is not null
