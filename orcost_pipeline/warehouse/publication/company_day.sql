-- One row per touched UTC day and company: spend, and what is charged for it. The days are passed as an array, because
-- the planner overestimates their number.
create temporary table staged_company_day on commit drop as
select u.day, u.account_id, u.company_id, sum(u.requests) as requests, sum(u.prompt_tokens) as prompt_tokens,
    sum(u.completion_tokens) as completion_tokens, sum(u.reasoning_tokens) as reasoning_tokens,
    sum(u.cached_tokens) as cached_tokens, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd,
    sum(u.charge_usd) as charge_usd, sum(u.purchase_fee_usd) as purchase_fee_usd
from core.charged_usage u
where u.account_id = :account_id and u.day = any(array(select distinct day from touched_day))
group by u.day, u.account_id, u.company_id
