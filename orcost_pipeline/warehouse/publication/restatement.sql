-- One row per settled day, API key and model whose money changed although the day was settled before. Where another
-- source reports the same for a key, but for tolerance and rounding, neither the key nor the residual is restated.
insert into ops.restatement
with before as (
    select u.day, u.key_id, u.model_id, sum(u.requests) as requests, sum(u.credits_usd) as credits_usd,
        sum(u.byok_usd) as byok_usd, min(u.source) as source
    from core.usage_daily u
    join built_day d on d.day = u.day and d.was_settled
    where u.account_id = :account_id
    group by 1, 2, 3
), after as (
    select u.day, u.key_id, u.model_id, sum(u.requests) as requests, sum(u.credits_usd) as credits_usd,
        sum(u.byok_usd) as byok_usd, min(u.source) as source
    from staged_usage_daily u
    join built_day d on d.day = u.day and d.was_settled
    group by 1, 2, 3
), compared as (
    select day, key_id, model_id,
        coalesce(b.credits_usd, 0) as credits_before, coalesce(a.credits_usd, 0) as credits_after,
        coalesce(b.byok_usd, 0) as byok_before, coalesce(a.byok_usd, 0) as byok_after,
        coalesce(b.requests, 0) as requests_before, coalesce(a.requests, 0) as requests_after,
        coalesce(key_id <> 0 and b.source <> a.source, false) as has_another_source
    from before b
    full join after a using (day, key_id, model_id)
), of_model as (
    select *, bool_or(has_another_source) over model as is_of_another_source,
        greatest(sum(requests_before) over model, sum(requests_after) over model) as requests
    from compared
    window model as (partition by day, model_id)
)
select :account, t.day, k.key_hash, m.model, :as_of, t.credits_before, t.credits_after, t.byok_before, t.byok_after,
    :run_id
from of_model t
join core.model m using (model_id)
left join core.api_key k using (key_id)
where greatest(abs(t.credits_after - t.credits_before), abs(t.byok_after - t.byok_before)) > :restated_above_usd
    and not (
        t.is_of_another_source and t.requests_after = t.requests_before
        and core.agrees(t.credits_after, t.credits_before, t.requests, :tolerance_usd)
        and core.agrees(t.byok_after, t.byok_before, t.requests, :tolerance_usd)
    )
on conflict (account, day, key_hash, model, noticed_at) do update
    set credits_usd_after = excluded.credits_usd_after, byok_usd_after = excluded.byok_usd_after
