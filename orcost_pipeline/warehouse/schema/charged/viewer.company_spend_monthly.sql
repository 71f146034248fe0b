-- One row per account, UTC month and company, for companies of the login: what is charged for usage.

-- The offset keeps the caller's conditions above the selected rows; see the view of the same name that shows cost
-- (D101).
create or replace view viewer.company_spend_monthly with (security_barrier) as
select
    s.account, s.month, s.company, s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens,
    s.cached_tokens, d.charge_usd::numeric(38, 18) as charge_usd, s.is_settled, s.as_of, s.display_name, s.external_id,
    s.owner_email, s.known_from, s.is_complete
from marts.company_spend_monthly s
join ref.account a using (account)
join ref.company c using (company)
cross join lateral (
    select sum(d.charge_usd) as charge_usd
    from core.company_day d
    where d.account_id = a.account_id and d.company_id = c.company_id and d.day >= s.month
        and d.day < s.month + interval '1 month'
) d
where s.company = any (array(select v.company from ref.viewer v where v.login = session_user))
offset 0;
