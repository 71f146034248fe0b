-- One row per UTC hour and model of the account's answer that its keys do not explain: usage without a key.
create temporary table staged_residual on commit drop as
with account as (
    select r.hour, m.model_id, r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens, r.cached_tokens,
        r.credits_usd, r.byok_usd
    from raw.usage_hourly r
    join core.model m on m.model = r.model
    where r.run_id = :extraction_id and r.account = :account and r.key_hash is null
), keys as (
    select u.hour, u.model_id, sum(u.requests) as requests, sum(u.prompt_tokens) as prompt_tokens,
        sum(u.completion_tokens) as completion_tokens, sum(u.reasoning_tokens) as reasoning_tokens,
        sum(u.cached_tokens) as cached_tokens, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from core.usage_hourly u
    join asked_hours q on q.key_id = 0 and u.hour >= q.start_at and u.hour < q.end_at
    where u.account_id = :account_id and u.key_id <> 0
    group by u.hour, u.model_id
), residual as (
    select
        hour, :account_id ::integer as account_id, 0 as key_id, model_id,
        coalesce(a.requests, 0) - coalesce(k.requests, 0) as requests,
        coalesce(a.prompt_tokens, 0) - coalesce(k.prompt_tokens, 0) as prompt_tokens,
        coalesce(a.completion_tokens, 0) - coalesce(k.completion_tokens, 0) as completion_tokens,
        coalesce(a.reasoning_tokens, 0) - coalesce(k.reasoning_tokens, 0) as reasoning_tokens,
        coalesce(a.cached_tokens, 0) - coalesce(k.cached_tokens, 0) as cached_tokens,
        coalesce(a.credits_usd, 0) - coalesce(k.credits_usd, 0) as credits_usd,
        coalesce(a.byok_usd, 0) - coalesce(k.byok_usd, 0) as byok_usd,
        'analytics'::core.usage_source as source
    from account a
    full join keys k using (hour, model_id)
)
select * from residual
where (requests, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens) is distinct from (0, 0, 0, 0, 0)
    or greatest(abs(credits_usd), abs(byok_usd)) >= :residual_from_usd
