-- One row per rolling period and model, creator or workspace of the keys: usage of the account.
create temporary table staged_rolling_total on commit drop as
with period (period, oldest) as (
    values ('24h', 1), ('7d', 3), ('30d', 5)
)
select :account_id ::integer as account_id, v.attribute, p.period, v.value is not null as is_known,
    coalesce(v.value, '') as value, sum(u.requests) as requests, sum(u.prompt_tokens) as prompt_tokens,
    sum(u.completion_tokens) as completion_tokens, sum(u.reasoning_tokens) as reasoning_tokens,
    sum(u.cached_tokens) as cached_tokens, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
from rolled_usage u
join period p on u.segment <= p.oldest
join core.model m using (model_id)
left join core.api_key_day_span h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day
cross join lateral (
    values ('model', m.model), ('creator', h.creator), ('workspace', h.workspace)
) as v (attribute, value)
group by v.attribute, p.period, v.value
