-- One row per company and rolling period, with the period before where its hours are known.
create temporary table staged_company_rolling on commit drop as
with covered as (
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
), keys as (
    select *
    from core.key_rolling
    where account_id = :account_id
)
-- A company without a key in the period has no usage in it.
select :account_id ::integer as account_id, company_id, period, coalesce(sum(k.requests), 0) as requests,
    coalesce(sum(k.prompt_tokens), 0) as prompt_tokens, coalesce(sum(k.completion_tokens), 0) as completion_tokens,
    coalesce(sum(k.reasoning_tokens), 0) as reasoning_tokens, coalesce(sum(k.cached_tokens), 0) as cached_tokens,
    coalesce(sum(k.credits_usd), 0) as credits_usd, coalesce(sum(k.byok_usd), 0) as byok_usd,
    case when c.period is not null then coalesce(b.credits_usd, 0) end as previous_credits_usd,
    case when c.period is not null then coalesce(b.byok_usd, 0) end as previous_byok_usd
from keys k
full join previously b using (company_id, period)
left join covered c using (period)
group by company_id, period, c.period, b.credits_usd, b.byok_usd
