-- Touched months and models of which the companies' spend is not the usage, to the last digit; where companies got or
-- lost keys, every month.
with days as (
    select day from day_of_touched_month
    union
    select day from core.account_day where account_id = :account_id and exists (select from moved_company)
), usage as (
    select date_trunc('month', u.day::timestamp)::date as month, u.model_id, sum(u.requests) as requests,
        sum(u.prompt_tokens + u.completion_tokens) as tokens, sum(u.credits_usd) as credits_usd,
        sum(u.byok_usd) as byok_usd
    from core.usage_daily u
    where u.account_id = :account_id and u.day = any(array(select day from days))
    group by 1, u.model_id
), models as (
    select s.month, s.model_id, sum(s.requests) as requests, sum(s.prompt_tokens + s.completion_tokens) as tokens,
        sum(s.credits_usd) as credits_usd, sum(s.byok_usd) as byok_usd
    from core.model_month s
    where s.account_id = :account_id
        and s.month in (select date_trunc('month', day::timestamp)::date from days)
    group by s.month, s.model_id
)
select month, model_id, u.credits_usd as usage_usd, m.credits_usd as companies_usd
from usage u
full join models m using (month, model_id)
where (u.requests, u.tokens, u.credits_usd, u.byok_usd)
    is distinct from (m.requests, m.tokens, m.credits_usd, m.byok_usd)
