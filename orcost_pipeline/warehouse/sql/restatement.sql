-- One row per settled day, API key and model whose money changed although the day was settled before.
insert into ops.restatement
with before as (
    select u.day, u.key_id, u.model_id, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from core.usage_daily u
    join built_day d on d.day = u.day and d.was_settled
    where u.account_id = :account_id
    group by 1, 2, 3
), after as (
    select u.day, u.key_id, u.model_id, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from staged_usage_daily u
    join built_day d on d.day = u.day and d.was_settled
    group by 1, 2, 3
), both_told as (
    select day, key_id, model_id, coalesce(b.credits_usd, 0) as credits_before, coalesce(a.credits_usd, 0) as credits_after,
        coalesce(b.byok_usd, 0) as byok_before, coalesce(a.byok_usd, 0) as byok_after
    from before b
    full join after a using (day, key_id, model_id)
)
select :account, t.day, k.key_hash, m.model, :as_of, t.credits_before, t.credits_after, t.byok_before, t.byok_after,
    :dagster_run_id
from both_told t
join core.model m using (model_id)
left join core.api_key k using (key_id)
where abs(t.credits_after - t.credits_before) > 1e-9 or abs(t.byok_after - t.byok_before) > 1e-9
on conflict (account, day, key_hash, model, noticed_at) do update
    set credits_usd_after = excluded.credits_usd_after, byok_usd_after = excluded.byok_usd_after
