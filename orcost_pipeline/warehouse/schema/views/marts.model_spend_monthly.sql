-- One row per account, UTC month, company and model: spend.
create or replace view marts.model_spend_monthly as
select
    a.account, s.month, c.company, i.model,
    s.requests::numeric(38, 6) as requests,
    s.prompt_tokens::numeric(38, 6) as prompt_tokens,
    s.completion_tokens::numeric(38, 6) as completion_tokens,
    s.reasoning_tokens::numeric(38, 6) as reasoning_tokens,
    s.cached_tokens::numeric(38, 6) as cached_tokens,
    s.credits_usd::numeric(38, 18) as credits_usd,
    s.byok_usd::numeric(38, 18) as byok_usd,
    m.is_settled, a.as_of, c.display_name, c.external_id, c.cost_centre,
    c.owner_email, m.known_from, m.is_complete
from core.model_month s
join core.month_span m using (account_id, month)
join core.model i using (model_id)
join ref.account a using (account_id)
join ref.company c using (company_id);
