select distinct model
from core.spend_daily
where company = :company and day = :day
order by model
