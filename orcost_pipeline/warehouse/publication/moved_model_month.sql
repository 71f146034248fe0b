-- One row per UTC month, company that got or lost keys, and model: spend.
create temporary table staged_moved_model_month on commit drop as
select date_trunc('month', u.day::timestamp)::date as month, u.account_id, s.company_id, u.model_id,
    sum(u.requests * s.share) as requests, sum(u.prompt_tokens * s.share) as prompt_tokens,
    sum(u.completion_tokens * s.share) as completion_tokens, sum(u.reasoning_tokens * s.share) as reasoning_tokens,
    sum(u.cached_tokens * s.share) as cached_tokens, sum(u.credits_usd * s.share) as credits_usd,
    sum(u.byok_usd * s.share) as byok_usd
from core.assignment s
join core.usage_daily u on u.account_id = s.account_id and u.key_id = s.key_id
    and u.day >= s.valid_from and u.day < s.valid_to
where s.account_id = :account_id and s.company_id = any(array(select company_id from moved_company))
group by 1, u.account_id, s.company_id, u.model_id
