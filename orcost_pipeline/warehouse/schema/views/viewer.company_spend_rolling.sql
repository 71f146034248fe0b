-- One row per account, company and rolling period, for companies of the login: spend and spend in the period before.

-- The offset keeps the caller's conditions above the selected rows: below them, EXPLAIN ANALYZE would count rows of
-- others. The array is looked up first; a subquery would be joined last, after the rows of all companies (D101).
create or replace view viewer.company_spend_rolling with (security_barrier) as
select
    s.account, s.company, s.period, s.as_of, s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens,
    s.cached_tokens, s.credits_usd, s.byok_usd, s.previous_credits_usd, s.previous_byok_usd, s.known_from,
    s.is_complete, s.display_name, s.external_id, s.owner_email
from marts.company_spend_rolling s
where s.company = any (array(select v.company from ref.viewer v where v.login = session_user))
offset 0;
