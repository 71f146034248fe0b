-- Hours follow from counters from where analytics ended, or from this month's start. The first readings are those of the
-- keys as stored.
with began as (
    update ref.account
    set counted_from = case when hours_from is null then :month_start else as_of end
    where account_id = :account_id and counted_from is null
    returning account_id, counted_from
)
insert into core.counter_point
select k.account_id, k.key_id, b.counted_from, k.usage_usd, k.byok_usage_usd
from core.api_key k
join began b using (account_id)
where k.deleted_at is null
