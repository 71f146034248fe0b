-- One row per UTC hour and model that is no longer reported by hour, and in which a foreign key had usage or the
-- residual is negative: the residual, theirs included. `is_right` where the day's hours sum to what the account reports.
create temporary table unkeyed_cell on commit drop as
with hours as (
    select u.*, (u.hour at time zone 'UTC')::date as day, f.key_id is not null as is_foreign
    from core.usage_hourly u
    cross join forgotten_from t
    left join foreign_key f using (key_id)
    where u.account_id = :account_id and (u.hour at time zone 'UTC')::date >= t.day and u.hour < t.hour
), reported as (
    select r.day, m.model_id, sum(r.credits_usd) as credits_usd, sum(r.byok_usd) as byok_usd
    from raw.usage_daily r
    join core.model m using (model)
    where r.run_id = :extraction_id and r.account = :account and r.key_hash is null
    group by r.day, m.model_id
), sums as (
    select day, model_id, sum(requests) as requests, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
    from hours
    group by day, model_id
), right_day as (
    select day, model_id
    from sums s
    join reported t using (day, model_id)
    where core.agrees(s.credits_usd, t.credits_usd, s.requests, :tolerance_usd)
        and core.agrees(s.byok_usd, t.byok_usd, s.requests, :tolerance_usd)
)
select h.hour, h.model_id, sum(h.requests) as requests, sum(h.prompt_tokens) as prompt_tokens,
    sum(h.completion_tokens) as completion_tokens, sum(h.reasoning_tokens) as reasoning_tokens,
    sum(h.cached_tokens) as cached_tokens, sum(h.credits_usd) as credits_usd, sum(h.byok_usd) as byok_usd,
    min(h.source) as source, bool_and(r.day is not null) as is_right
from hours h
left join right_day r using (day, model_id)
where h.key_id = 0 or h.is_foreign
group by h.hour, h.model_id
having bool_or(h.is_foreign) or bool_or(h.key_id = 0 and least(h.requests, h.credits_usd, h.byok_usd) < 0)
