-- One row per account, UTC hour, company, API key (null: usage without a key) and model: spend, with what is known of
-- company, key and model, for BI tools and exports.

-- Joined like marts.spend_daily.
create or replace view marts.spend_hourly as
select
    a.account, u.hour, c.company, c.display_name, c.external_id, c.cost_centre, k.key_hash, v.name as key_name,
    h.workspace_name, h.creator_email, m.model,
    case when strpos(m.model, '/') > 0 then split_part(m.model, '/', 1) end as model_author,
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
    u.source::text as source, a.as_of
from core.usage_hourly u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= (u.hour at time zone 'UTC')::date and s.valid_to > (u.hour at time zone 'UTC')::date
join ref.company c on c.company_id = s.company_id
left join ref.account a on a.account_id = u.account_id
left join core.model m on m.model_id = u.model_id
left join core.api_key k on k.key_id = u.key_id
left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null
left join core.api_key_day_span h on h.key_id = u.key_id
    and h.first_day <= (u.hour at time zone 'UTC')::date and h.end_day > (u.hour at time zone 'UTC')::date;
