-- One row per UTC day, API key, model and provider of the days to build: settled ones from activity, or from analytics
-- where activity does not reach; others from their hours. Usage has the columns of core.usage_daily throughout.
create temporary table staged_usage_daily on commit drop as
with hours as (
    select (u.hour at time zone 'UTC')::date as day, u.account_id, u.key_id, u.model_id, 0 as provider_id,
        sum(u.requests) as requests, sum(u.prompt_tokens) as prompt_tokens,
        sum(u.completion_tokens) as completion_tokens, sum(u.reasoning_tokens) as reasoning_tokens,
        sum(u.cached_tokens) as cached_tokens, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd,
        (case when bool_or(u.source = 'counter') then 'counter' else 'hours' end)::core.usage_source as source
    from core.usage_hourly u
    join built_day d on u.hour >= d.start_at and u.hour < d.end_at
    where u.account_id = :account_id
    group by 1, 2, 3, 4
), known_key as (
    -- A response without a hash is about the account: key 0.
    select key_hash, key_id from core.api_key where account_id = :account_id
    union all
    select '', 0
), reported as (
    select r.day, :account_id ::integer as account_id, k.key_id, m.model_id, p.provider_id, sum(r.requests) as requests,
        sum(r.prompt_tokens) as prompt_tokens, sum(r.completion_tokens) as completion_tokens,
        sum(r.reasoning_tokens) as reasoning_tokens, sum(r.cached_tokens) as cached_tokens,
        sum(r.credits_usd) as credits_usd, sum(r.byok_usd) as byok_usd, d.source
    from raw.activity_daily r
    join built_day d on d.day = r.day and d.is_settled
    join known_key k on k.key_hash = coalesce(r.key_hash, '')
    join core.model m on m.model = r.model
    join core.provider p on p.provider is not distinct from nullif(r.provider, '')
    where r.run_id = :extraction_id and r.account = :account
    group by r.day, k.key_id, m.model_id, p.provider_id, d.source
    union all
    select r.day, :account_id, k.key_id, m.model_id, 0, r.requests, r.prompt_tokens, r.completion_tokens,
        r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd, d.source
    from raw.usage_daily r
    join built_day d on d.day = r.day and d.is_settled
    join known_key k on k.key_hash = coalesce(r.key_hash, '')
    join core.model m on m.model = r.model
    where r.run_id = :extraction_id and r.account = :account
), keys_reported as (
    select t.*
    from reported t
    join asked_day a on a.day = t.day and a.key_id = t.key_id
    union all
    -- A key that was not asked, or did not answer, keeps the day as stored.
    select u.*
    from core.usage_daily u
    join built_day d on d.day = u.day and d.is_settled
    where u.account_id = :account_id and u.key_id <> 0 and u.source in ('activity', 'analytics')
        and not exists (select from asked_day a where a.day = u.day and a.key_id = u.key_id)
), account_totals as (
    select d.day, coalesce(sum(t.credits_usd), 0) as credits_usd, coalesce(sum(t.byok_usd), 0) as byok_usd,
        coalesce(sum(t.requests), 0) as requests
    from built_day d
    left join reported t on t.day = d.day and t.key_id = 0
    where d.is_settled
    group by d.day
), hour_totals as (
    select day, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd, sum(requests) as requests
    from hours
    group by day
), account_below as (
    select a.day
    from account_totals a
    join hour_totals h using (day)
    where core.is_below(a.credits_usd, a.byok_usd, a.requests, h.credits_usd, h.byok_usd, h.requests, :tolerance_usd)
), by_key as (
    select day, key_id, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd, sum(requests) as requests
    from keys_reported
    group by day, key_id
), kept_as_hours as (
    select h.day, h.key_id
    from (
        select day, key_id, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd, sum(requests) as requests,
            bool_or(source = 'counter') as is_counted
        from hours
        where key_id <> 0
        group by day, key_id
    ) h
    join built_day d on d.day = h.day and d.is_settled
    left join by_key a on a.day = h.day and a.key_id = h.key_id
    -- Within the condition below, `not exists` would read all of it once for each key and day.
    left join asked_day k on k.day = h.day and k.key_id = h.key_id
    where (a.key_id is null and k.key_id is null)
       -- Usage that counters book on a day may belong to earlier days; activity is exact.
       or (not h.is_counted and h.day not in (select day from account_below)
           and core.is_below(coalesce(a.credits_usd, 0), coalesce(a.byok_usd, 0), coalesce(a.requests, 0),
                                h.credits_usd, h.byok_usd, h.requests, :tolerance_usd))
), keys as (
    select a.*
    from keys_reported a
    where not exists (select from kept_as_hours k where k.day = a.day and k.key_id = a.key_id)
    union all
    select h.*
    from hours h
    join kept_as_hours k on k.day = h.day and k.key_id = h.key_id
), residual as (
    select r.day, r.account_id, 0 as key_id, r.model_id, 0 as provider_id, sum(r.sign * r.requests) as requests,
        sum(r.sign * r.prompt_tokens) as prompt_tokens, sum(r.sign * r.completion_tokens) as completion_tokens,
        sum(r.sign * r.reasoning_tokens) as reasoning_tokens, sum(r.sign * r.cached_tokens) as cached_tokens,
        sum(r.sign * r.credits_usd) as credits_usd, sum(r.sign * r.byok_usd) as byok_usd, d.source
    from (
        select 1 as sign, t.* from reported t where t.key_id = 0
        union all
        select -1, k.* from keys k
    ) r
    join built_day d using (day)
    group by r.day, r.account_id, r.model_id, d.source
), days as (
    select * from keys
    union all
    select *
    from residual
    where (requests, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens) is distinct from (0, 0, 0, 0, 0)
        or greatest(abs(credits_usd), abs(byok_usd)) >= :residual_from_usd
    union all
    select h.*
    from hours h
    join built_day d on d.day = h.day and not d.is_settled
)
select *
from days
where (requests, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens) is distinct from (0, 0, 0, 0, 0)
    or credits_usd <> 0 or byok_usd <> 0
