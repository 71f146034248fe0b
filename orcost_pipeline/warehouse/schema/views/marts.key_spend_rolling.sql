-- One row per account, API key, company and rolling period: spend; keys without usage have a row with 0 unless they are
-- deleted.
create or replace view marts.key_spend_rolling as
select
    a.account, k.key_hash, c.company, r.period, v.name as key_name, a.as_of,
    r.requests::numeric(38, 6) as requests,
    r.prompt_tokens::numeric(38, 6) as prompt_tokens,
    r.completion_tokens::numeric(38, 6) as completion_tokens,
    r.reasoning_tokens::numeric(38, 6) as reasoning_tokens,
    r.cached_tokens::numeric(38, 6) as cached_tokens,
    r.credits_usd::numeric(38, 18) as credits_usd,
    r.byok_usd::numeric(38, 18) as byok_usd,
    s.known_from, s.is_complete,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
from core.key_rolling r
join ref.account a using (account_id)
join core.rolling_span s using (account_id, period)
join ref.company c using (company_id)
left join core.api_key k on k.key_id = r.key_id
left join core.api_key_version v on v.key_id = r.key_id and v.valid_to is null;
