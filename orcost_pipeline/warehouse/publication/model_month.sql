-- One row per UTC month with a day whose usage changed, company and model: spend.
create temporary table staged_model_month on commit drop as
select date_trunc('month', u.day::timestamp)::date as month, u.account_id, s.company_id, u.model_id,
    sum(u.requests * s.share) as requests, sum(u.prompt_tokens * s.share) as prompt_tokens,
    sum(u.completion_tokens * s.share) as completion_tokens, sum(u.reasoning_tokens * s.share) as reasoning_tokens,
    sum(u.cached_tokens * s.share) as cached_tokens, sum(u.credits_usd * s.share) as credits_usd,
    sum(u.byok_usd * s.share) as byok_usd
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
where u.account_id = :account_id and u.day = any(array(select day from day_of_touched_month))
group by 1, u.account_id, s.company_id, u.model_id
