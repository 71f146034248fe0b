-- One row per UTC month, company and line of its statement, for companies of the login: what it is charged.

-- The offset keeps the caller's conditions above the selected rows; see the view of the same name that shows cost
-- (D101).
create or replace view viewer.statement with (security_barrier) as
select
    s.month, s.company, s.line, s.kind, s.account, s.key_hash, s.key_name, s.model, s.adjusted_month,
    s.requests::numeric(38, 6) as requests, s.prompt_tokens::numeric(38, 6) as prompt_tokens,
    s.completion_tokens::numeric(38, 6) as completion_tokens, s.amount_usd::numeric(38, 18) as amount_usd,
    s.amount::numeric(38, 18) as amount, s.currency, s.per_usd::numeric(38, 18) as per_usd
from marts.statement s
where s.company = any (array(select v.company from ref.viewer v where v.login = session_user))
offset 0;
