-- Owners do not matter to the model: the shares of a key sum to its usage.
select a.account, a.as_of, m.model,
    s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens, s.cached_tokens, s.credits_usd, s.byok_usd
from (
    select d.account_id, d.model_id, sum(d.requests) as requests, sum(d.prompt_tokens) as prompt_tokens,
        sum(d.completion_tokens) as completion_tokens, sum(d.reasoning_tokens) as reasoning_tokens,
        sum(d.cached_tokens) as cached_tokens, sum(d.credits_usd) as credits_usd, sum(d.byok_usd) as byok_usd
    from core.usage_daily d
    where d.day >= :first and d.day < :last
    group by d.account_id, d.model_id
    union all
    select e.account_id, e.model_id, e.requests, e.prompt_tokens, e.completion_tokens, e.reasoning_tokens,
        e.cached_tokens, e.credits_usd, e.byok_usd
    from core.usage_hourly e
    where e.hour = any(cast(:hours as timestamptz[]))
) s
join ref.account a using (account_id)
join core.model m using (model_id)
where cast(:account as text) is null or a.account = :account
