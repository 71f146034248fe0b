-- One row per account, UTC day and company: spend.
create or replace view marts.company_spend_daily as
select
    a.account, s.day, c.company,
    s.requests::numeric(38, 6) as requests,
    s.prompt_tokens::numeric(38, 6) as prompt_tokens,
    s.completion_tokens::numeric(38, 6) as completion_tokens,
    s.reasoning_tokens::numeric(38, 6) as reasoning_tokens,
    s.cached_tokens::numeric(38, 6) as cached_tokens,
    s.credits_usd::numeric(38, 18) as credits_usd,
    s.byok_usd::numeric(38, 18) as byok_usd,
    d.is_settled, a.as_of,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
from core.company_day s
join core.account_day d using (account_id, day)
join ref.account a using (account_id)
join ref.company c using (company_id);
