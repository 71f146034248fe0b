-- Rolling periods in which models, creators or workspaces do not sum to the keys, to the last digit.
with keys as (
    select a.attribute, period, sum(requests) as requests, sum(prompt_tokens + completion_tokens) as tokens,
        sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
    from core.key_rolling
    cross join (values ('model'), ('creator'), ('workspace')) as a (attribute)
    where account_id = :account_id
    group by a.attribute, period
), totals as (
    select attribute, period, sum(requests) as requests, sum(prompt_tokens + completion_tokens) as tokens,
        sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
    from core.rolling_total
    where account_id = :account_id
    group by attribute, period
)
select attribute, period, k.credits_usd as keys_usd, t.credits_usd as totals_usd
from keys k
full join totals t using (attribute, period)
where (coalesce(k.requests, 0), coalesce(k.tokens, 0), coalesce(k.credits_usd, 0), coalesce(k.byok_usd, 0))
    is distinct from
    (coalesce(t.requests, 0), coalesce(t.tokens, 0), coalesce(t.credits_usd, 0), coalesce(t.byok_usd, 0))
