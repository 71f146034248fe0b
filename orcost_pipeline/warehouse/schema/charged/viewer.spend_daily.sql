-- One row per account, UTC day, company, API key, model and provider, for companies of the login: what is charged for
-- usage.

-- The offset keeps the caller's conditions above the selected rows; see the view of the same name that shows cost
-- (D101).
create or replace view viewer.spend_daily with (security_barrier) as
select
    a.account, s.day, c.company, c.display_name, c.external_id, k.key_hash, v.name as key_name, h.workspace_name, m.model,
    case when strpos(m.model, '/') > 0 then split_part(m.model, '/', 1) end as model_author, p.provider,
    s.requests::numeric(38, 6) as requests, s.prompt_tokens::numeric(38, 6) as prompt_tokens,
    s.completion_tokens::numeric(38, 6) as completion_tokens, s.reasoning_tokens::numeric(38, 6) as reasoning_tokens,
    s.cached_tokens::numeric(38, 6) as cached_tokens, s.charge_usd::numeric(38, 18) as charge_usd, d.is_settled,
    s.source::text as source, a.as_of
from core.charged_usage s
join ref.company c on c.company_id = s.company_id
left join ref.account a on a.account_id = s.account_id
left join core.account_day d on d.account_id = s.account_id and d.day = s.day
left join core.model m on m.model_id = s.model_id
left join core.provider p on p.provider_id = s.provider_id
left join core.api_key k on k.key_id = s.key_id
left join core.api_key_version v on v.key_id = s.key_id and v.valid_to is null
left join core.api_key_day_span h on h.key_id = s.key_id and h.first_day <= s.day and h.end_day > s.day
where c.company = any (array(select v.company from ref.viewer v where v.login = session_user))
offset 0;
