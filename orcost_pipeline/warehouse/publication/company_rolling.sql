-- One row per company and rolling period, with the period before where its hours are known.
create temporary table staged_company_rolling on commit drop as
with now_used as (
    select company_id, period, sum(requests) as requests, sum(prompt_tokens) as prompt_tokens,
        sum(completion_tokens) as completion_tokens, sum(reasoning_tokens) as reasoning_tokens,
        sum(cached_tokens) as cached_tokens, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd,
        sum(charge_usd) as charge_usd
    from core.key_rolling
    where account_id = :account_id
    group by company_id, period
), covered as (
    select period
    from rolling_edge
    group by period
    having bool_and(is_known)
), previously as (
    select company_id, period, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
    from core.key_previous
    join covered using (period)
    where account_id = :account_id
    group by company_id, period
)
select :account_id ::integer as account_id, company_id, period, coalesce(n.requests, 0) as requests,
    coalesce(n.prompt_tokens, 0) as prompt_tokens, coalesce(n.completion_tokens, 0) as completion_tokens,
    coalesce(n.reasoning_tokens, 0) as reasoning_tokens, coalesce(n.cached_tokens, 0) as cached_tokens,
    coalesce(n.credits_usd, 0) as credits_usd, coalesce(n.byok_usd, 0) as byok_usd,
    coalesce(n.charge_usd, 0) as charge_usd,
    case when c.period is not null then coalesce(b.credits_usd, 0) end as previous_credits_usd,
    case when c.period is not null then coalesce(b.byok_usd, 0) end as previous_byok_usd
from now_used n
full join previously b using (company_id, period)
left join covered c using (period)
