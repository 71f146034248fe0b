-- One row per account, company and rolling period, for companies of the login: what is charged for usage.

-- The offset keeps the caller's conditions above the selected rows; see the view of the same name that shows cost
-- (D101).
create or replace view viewer.company_spend_rolling with (security_barrier) as
select
    s.account, s.company, s.period, s.as_of, s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens,
    s.cached_tokens, r.charge_usd::numeric(38, 18) as charge_usd, s.known_from, s.is_complete, s.display_name,
    s.external_id, s.owner_email
from marts.company_spend_rolling s
join ref.account a using (account)
join ref.company c using (company)
join core.company_rolling r on r.account_id = a.account_id and r.company_id = c.company_id and r.period = s.period
where s.company = any (array(select v.company from ref.viewer v where v.login = session_user))
offset 0;
