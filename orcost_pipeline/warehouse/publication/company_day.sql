-- One row per touched UTC day and company: spend. The days are an array, because how few they are is not foreseen.
create temporary table staged_company_day on commit drop as
select u.day, u.account_id, s.company_id, sum(u.requests * s.share) as requests,
    sum(u.prompt_tokens * s.share) as prompt_tokens, sum(u.completion_tokens * s.share) as completion_tokens,
    sum(u.reasoning_tokens * s.share) as reasoning_tokens, sum(u.cached_tokens * s.share) as cached_tokens,
    sum(u.credits_usd * s.share) as credits_usd, sum(u.byok_usd * s.share) as byok_usd
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
where u.account_id = :account_id and u.day = any(array(select distinct day from touched_day))
group by u.day, u.account_id, s.company_id
