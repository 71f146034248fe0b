-- Providers of this run's answers that no account has met yet.
insert into core.provider (provider)
select provider
from (
    select distinct provider from raw.activity_daily where run_id = :extraction_id and account = :account and provider <> ''
) reported
where not exists (select from core.provider known where known.provider = reported.provider)
order by provider
on conflict do nothing
