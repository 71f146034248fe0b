-- One row per account, UTC day, company, API key (0: no key), model and provider (0: unknown): spend, with small ids, and
-- what is charged for it.
create or replace view core.charged_usage as
select
    u.account_id, u.day, s.company_id, u.key_id, u.model_id, u.provider_id, u.source,
    u.requests * s.share as requests,
    u.prompt_tokens * s.share as prompt_tokens,
    u.completion_tokens * s.share as completion_tokens,
    u.reasoning_tokens * s.share as reasoning_tokens,
    u.cached_tokens * s.share as cached_tokens,
    u.credits_usd * s.share as credits_usd,
    u.byok_usd * s.share as byok_usd,
    s.share * core.charge(
        s.company_id, p, u.requests, u.prompt_tokens, u.completion_tokens, u.credits_usd, u.byok_usd
    ) as charge_usd,
    u.credits_usd * s.share * coalesce(p.purchase_rate, 0) as purchase_fee_usd,
    coalesce(p.plan, '') as plan
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
left join core.price p on p.account_id = u.account_id and p.company_id = s.company_id and p.model_id = u.model_id
    and p.is_counter = (u.source = 'counter') and p.valid_from <= u.day and p.valid_to > u.day;
