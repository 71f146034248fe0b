select a.account, k.key_hash, v.name as key_name, m.model, u.hour, u.source::text as source,
    trim_scale(s.share) as share, trim_scale(u.credits_usd) as usage_credits_usd,
    trim_scale(u.byok_usd) as usage_byok_usd,
    trim_scale(u.requests * s.share) as requests,
    trim_scale(u.prompt_tokens * s.share) as prompt_tokens,
    trim_scale(u.completion_tokens * s.share) as completion_tokens,
    trim_scale(u.reasoning_tokens * s.share) as reasoning_tokens,
    trim_scale(u.cached_tokens * s.share) as cached_tokens,
    trim_scale(u.credits_usd * s.share) as credits_usd,
    trim_scale(u.byok_usd * s.share) as byok_usd
from core.usage_hourly u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= :day and s.valid_to > :day
join ref.account a on a.account_id = u.account_id
join ref.company c on c.company_id = s.company_id
join core.model m on m.model_id = u.model_id
left join core.api_key k on k.key_id = u.key_id
left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null
where u.hour >= (cast(:day as date))::timestamp at time zone 'UTC'
    and u.hour < (cast(:day as date) + 1)::timestamp at time zone 'UTC'
    and c.company = :company and (cast(:account as text) is null or a.account = :account)
order by a.account, v.name, k.key_hash, u.hour, m.model
