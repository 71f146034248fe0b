-- One row per account, UTC day, company, API key (null: usage without a key), model and provider: spend, with what is
-- known of company, key and model, for BI tools and exports.

-- Usage, assignments and companies are joined first: filters on day and company reach their indexes. The joins are
-- left joins although no row is ever missing: Postgres drops a left join whose columns a query does not use. total_usd
-- is the sum of the rounded amounts beside it, so that each row adds up.
create or replace view marts.spend_daily as
select
    a.account, u.day, c.company, c.display_name, c.external_id, c.cost_centre, k.key_hash, v.name as key_name,
    h.workspace_name, h.creator_email, m.model,
    case when strpos(m.model, '/') > 0 then split_part(m.model, '/', 1) end as model_author, p.provider,
    (u.requests * s.share)::numeric(38, 6) as requests,
    (u.prompt_tokens * s.share)::numeric(38, 6) as prompt_tokens,
    (u.completion_tokens * s.share)::numeric(38, 6) as completion_tokens,
    (u.reasoning_tokens * s.share)::numeric(38, 6) as reasoning_tokens,
    (u.cached_tokens * s.share)::numeric(38, 6) as cached_tokens,
    (u.credits_usd * s.share)::numeric(38, 18) as credits_usd,
    (u.byok_usd * s.share)::numeric(38, 18) as byok_usd,
    (
        (u.credits_usd * s.share)::numeric(38, 18) + (u.byok_usd * s.share)::numeric(38, 18)
    )::numeric(38, 18) as total_usd,
    d.is_settled, u.source::text as source, a.as_of
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
join ref.company c on c.company_id = s.company_id
left join ref.account a on a.account_id = u.account_id
left join core.account_day d on d.account_id = u.account_id and d.day = u.day
left join core.model m on m.model_id = u.model_id
left join core.provider p on p.provider_id = u.provider_id
left join core.api_key k on k.key_id = u.key_id
left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null
left join core.api_key_day_span h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day;
