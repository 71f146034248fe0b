select line, company, charge, value, model, valid_from, valid_to, note
from ref.price_plan
where version = (select max(version) from ref.price_plan_version)
order by line
