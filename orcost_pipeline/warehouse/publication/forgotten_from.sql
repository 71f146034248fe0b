-- One row: the first hour and the first UTC day for which this run asked about the account as a whole.
create temporary table forgotten_from on commit drop as
select coalesce(min(start_at) filter (where grain = 'hour'), :counters_horizon) as hour,
    (least(min(start_at), :this_hour) at time zone 'UTC')::date as day
from raw.usage_question
where run_id = :extraction_id and account = :account and key_hash is null and outcome = 'answered'
