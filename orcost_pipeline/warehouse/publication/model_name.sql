-- Models of this run's answers that no account has met yet.
insert into core.model (model)
select model
from (
    select model from raw.usage_hourly where run_id = :extraction_id and account = :account
    union
    select model from raw.usage_daily where run_id = :extraction_id and account = :account
    union
    select model from raw.activity_daily where run_id = :extraction_id and account = :account
    union
    select '(unknown)' where :is_counted
) reported
where not exists (select from core.model known where known.model = reported.model)
order by model
on conflict do nothing
