-- One row per account, UTC day, company, API key (0: no key), model and provider (0: unknown): spend, with small ids, and
-- what is charged for it.

-- Without a price of its own, usage costs what OpenRouter charged; Unattributed (0) is never charged.
create or replace view core.charged_usage as
select
    u.account_id, u.day, s.company_id, u.key_id, u.model_id, u.provider_id,
    u.requests * s.share as requests,
    u.prompt_tokens * s.share as prompt_tokens,
    u.completion_tokens * s.share as completion_tokens,
    u.reasoning_tokens * s.share as reasoning_tokens,
    u.cached_tokens * s.share as cached_tokens,
    u.credits_usd * s.share as credits_usd,
    u.byok_usd * s.share as byok_usd,
    s.share * case
        when p.plan is not null then u.credits_usd * p.credits_rate + u.byok_usd * p.byok_rate
            + u.prompt_tokens * p.prompt_rate + u.completion_tokens * p.completion_rate + u.requests * p.request_rate
        when s.company_id <> 0 then u.credits_usd
        else 0
    end as charge_usd,
    u.credits_usd * s.share * coalesce(p.purchase_rate, 0) as purchase_fee_usd,
    coalesce(p.plan, '') as plan
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
left join core.price p on p.account_id = u.account_id and p.company_id = s.company_id and p.model_id = u.model_id
    and p.is_counter = (u.source = 'counter') and p.valid_from <= u.day and p.valid_to > u.day;
