-- One row per account, UTC month and company, for companies of the login: spend.

-- The offset keeps the caller's conditions above the selected rows: below them, EXPLAIN ANALYZE would count rows of
-- others. The array is looked up first; a subquery would be joined last, after the rows of all companies (D101).
create or replace view viewer.company_spend_monthly with (security_barrier) as
select
    s.account, s.month, s.company, s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens,
    s.cached_tokens, s.credits_usd, s.byok_usd, s.is_settled, s.as_of, s.display_name, s.external_id, s.owner_email,
    s.known_from, s.is_complete
from marts.company_spend_monthly s
where s.company = any (array(select v.company from ref.viewer v where v.login = session_user))
offset 0;
