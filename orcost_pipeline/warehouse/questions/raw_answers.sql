with owned as (
    -- A key with an owner is asked for by its hash; no hash is the account's own answer, shown to the residual's owner.
    select a.account, k.key_hash
    from core.assignment s
    join ref.account a using (account_id)
    join ref.company c using (company_id)
    left join core.api_key k using (key_id)
    where c.company = :company and (cast(:account as text) is null or a.account = :account)
        and (s.key_id = 0 or s.valid_from <= :day and s.valid_to > :day)
), answers as (
    select r.account, r.key_hash, 'raw.usage_hourly' as relation, r.run_id, r.as_of, r.hour, r.model,
        null as provider, null as endpoint_id,
        r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd
    from raw.usage_hourly r
    where r.hour >= (cast(:day as date))::timestamp at time zone 'UTC'
        and r.hour < (cast(:day as date) + 1)::timestamp at time zone 'UTC'
    union all
    select r.account, r.key_hash, 'raw.usage_daily', r.run_id, r.as_of, null, r.model, null, null,
        r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd
    from raw.usage_daily r
    where r.day = :day
    union all
    select r.account, r.key_hash, 'raw.activity_daily', r.run_id, r.as_of, null, r.model, nullif(r.provider, ''),
        r.endpoint_id,
        r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd
    from raw.activity_daily r
    where r.day = :day
)
select n.account, n.key_hash, n.relation, n.run_id, n.as_of, n.hour, n.model, n.provider, n.endpoint_id,
    trim_scale(n.requests) as requests,
    trim_scale(n.prompt_tokens) as prompt_tokens,
    trim_scale(n.completion_tokens) as completion_tokens,
    trim_scale(n.reasoning_tokens) as reasoning_tokens,
    trim_scale(n.cached_tokens) as cached_tokens,
    trim_scale(n.credits_usd) as credits_usd,
    trim_scale(n.byok_usd) as byok_usd
from answers n
where exists (
    select from owned o where o.account = n.account and coalesce(o.key_hash, '') = coalesce(n.key_hash, '')
)
order by 1, 2, 3, 5, 6, 7, 8, 9
