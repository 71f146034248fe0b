select instigator_body::json -> 'origin' ->> 'job_name' as name
from dagster.instigators
where status = 'STOPPED'
order by instigator_type, 1
