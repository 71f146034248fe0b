-- One row per account, company and rolling period: spend, and spend in the period before.
create or replace view marts.company_spend_rolling as
select
    a.account, c.company, r.period, a.as_of,
    r.requests::numeric(38, 6) as requests,
    r.prompt_tokens::numeric(38, 6) as prompt_tokens,
    r.completion_tokens::numeric(38, 6) as completion_tokens,
    r.reasoning_tokens::numeric(38, 6) as reasoning_tokens,
    r.cached_tokens::numeric(38, 6) as cached_tokens,
    r.credits_usd::numeric(38, 18) as credits_usd,
    r.byok_usd::numeric(38, 18) as byok_usd,
    r.previous_credits_usd::numeric(38, 18) as previous_credits_usd,
    r.previous_byok_usd::numeric(38, 18) as previous_byok_usd,
    s.known_from, s.is_complete,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
from core.company_rolling r
join ref.account a using (account_id)
join core.rolling_span s using (account_id, period)
join ref.company c using (company_id);
