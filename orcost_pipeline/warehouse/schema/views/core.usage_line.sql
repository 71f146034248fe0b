-- One row per UTC month, company, account, API key (0: no key) and model: usage, and the charge for it computed from
-- today's data.

-- Days are found by their month's bounds, which the order of usage serves; companies are named before anything is summed.
create or replace view core.usage_line as
select m.month, c.company, u.company_id, u.account_id, u.key_id, u.model_id, sum(u.requests) as requests,
    sum(u.prompt_tokens) as prompt_tokens, sum(u.completion_tokens) as completion_tokens,
    sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd, sum(u.charge_usd) as charge_usd
from (select distinct month from core.month_span) m
join core.charged_usage u on u.day >= m.month and u.day < (m.month + interval '1 month')::date
join ref.company c on c.company_id = u.company_id
group by m.month, c.company, u.company_id, u.account_id, u.key_id, u.model_id;
