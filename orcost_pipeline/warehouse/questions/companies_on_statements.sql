-- What statements say of companies, by the list of companies in force; companies of which it says nothing are left out.
select company, display_name, external_id, currency
from ref.company
where coalesce(display_name, external_id, currency) is not null
