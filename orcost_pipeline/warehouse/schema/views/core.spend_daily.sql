-- One row per account, UTC day, company, API key, model and provider: usage attributed to companies.
create or replace view core.spend_daily as
select
    a.account, u.day, c.company, k.key_hash, m.model, p.provider, v.name as key_name,
    u.requests * s.share as requests,
    u.prompt_tokens * s.share as prompt_tokens,
    u.completion_tokens * s.share as completion_tokens,
    u.reasoning_tokens * s.share as reasoning_tokens,
    u.cached_tokens * s.share as cached_tokens,
    u.credits_usd * s.share as credits_usd,
    u.byok_usd * s.share as byok_usd,
    s.rule, u.source::text as source, d.is_settled
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
join core.account_day d on d.account_id = u.account_id and d.day = u.day
join ref.account a on a.account_id = u.account_id
join ref.company c on c.company_id = s.company_id
join core.model m on m.model_id = u.model_id
join core.provider p on p.provider_id = u.provider_id
left join core.api_key k on k.key_id = u.key_id
left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null;
