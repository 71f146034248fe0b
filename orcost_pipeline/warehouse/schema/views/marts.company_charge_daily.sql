-- One row per account, UTC day, company, API key (null: usage without a key) and model: spend, and what is charged for it
-- by the price plans in force, closed months included. Amounts are exact.

-- Everything is joined before it is summed, so that conditions on day and company reach the indexes.
create or replace view marts.company_charge_daily as
select
    a.account, u.day, c.company, k.key_hash, v.name as key_name, m.model,
    trim_scale(sum(u.requests)) as requests,
    trim_scale(sum(u.prompt_tokens)) as prompt_tokens,
    trim_scale(sum(u.completion_tokens)) as completion_tokens,
    trim_scale(sum(u.credits_usd)) as credits_usd,
    trim_scale(sum(u.byok_usd)) as byok_usd,
    trim_scale(sum(u.charge_usd)) as charge_usd,
    max(u.plan) as plan, a.as_of
from core.charged_usage u
join ref.account a using (account_id)
join ref.company c using (company_id)
join core.model m using (model_id)
left join core.api_key k on k.key_id = u.key_id
left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null
group by a.account, u.day, c.company, k.key_hash, v.name, m.model, a.as_of;
