-- The models that a company used on a day, and whether all of that is known from counters only.
select model, bool_and(source = 'counter') as is_counter
from core.spend_daily
where company = :company and day = :day
group by model
order by model
