-- One row per account, UTC day, company, API key (null: usage without a key) and model: spend, and what is charged for it
-- by the price plans in force, closed months included. Amounts are exact.
create or replace view marts.company_charge_daily as
select
    a.account, u.day, c.company, k.key_hash, v.name as key_name, m.model,
    trim_scale(u.requests) as requests,
    trim_scale(u.prompt_tokens) as prompt_tokens,
    trim_scale(u.completion_tokens) as completion_tokens,
    trim_scale(u.credits_usd) as credits_usd,
    trim_scale(u.byok_usd) as byok_usd,
    trim_scale(u.charge_usd) as charge_usd,
    u.plan, a.as_of
from (
    select account_id, day, company_id, key_id, model_id, sum(requests) as requests, sum(prompt_tokens) as prompt_tokens,
        sum(completion_tokens) as completion_tokens, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd,
        sum(charge_usd) as charge_usd, max(plan) as plan
    from core.charged_usage
    group by account_id, day, company_id, key_id, model_id
) u
join ref.account a using (account_id)
join ref.company c using (company_id)
join core.model m using (model_id)
left join core.api_key k on k.key_id = u.key_id
left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null;
