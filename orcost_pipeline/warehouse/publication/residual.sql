-- One row per UTC hour and model of the account's answer that its keys do not explain: usage without a key.
create temporary table staged_residual on commit drop as
with account as (
    -- The columns of core.usage_hourly, in its order.
    select r.hour, :account_id ::integer as account_id, 0 as key_id, m.model_id, r.requests, r.prompt_tokens,
        r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd,
        'analytics'::core.usage_source as source
    from raw.usage_hourly r
    join core.model m on m.model = r.model
    where r.run_id = :extraction_id and r.account = :account and r.key_hash is null
), keys as (
    select u.*
    from core.usage_hourly u
    join asked_hours q on q.key_id = 0 and u.hour >= q.start_at and u.hour < q.end_at
    where u.account_id = :account_id and u.key_id <> 0
), residual as (
    select hour, account_id, 0 as key_id, model_id, sum(sign * requests) as requests,
        sum(sign * prompt_tokens) as prompt_tokens, sum(sign * completion_tokens) as completion_tokens,
        sum(sign * reasoning_tokens) as reasoning_tokens, sum(sign * cached_tokens) as cached_tokens,
        sum(sign * credits_usd) as credits_usd, sum(sign * byok_usd) as byok_usd,
        'analytics'::core.usage_source as source
    from (
        select 1 as sign, a.* from account a
        union all
        select -1, k.* from keys k
    ) account_less_keys
    group by hour, account_id, model_id
)
select *
from residual
where (requests, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens) is distinct from (0, 0, 0, 0, 0)
    or greatest(abs(credits_usd), abs(byok_usd)) >= :residual_from_usd
