select a.account, u.day, c.company, k.key_hash, v.name as key_name, m.model, p.provider, s.rule, r.line,
    trim_scale(s.share) as share, u.source::text as source, d.is_settled,
    trim_scale(u.credits_usd) as usage_credits_usd, trim_scale(u.byok_usd) as usage_byok_usd,
    trim_scale(u.requests * s.share) as requests,
    trim_scale(u.prompt_tokens * s.share) as prompt_tokens,
    trim_scale(u.completion_tokens * s.share) as completion_tokens,
    trim_scale(u.reasoning_tokens * s.share) as reasoning_tokens,
    trim_scale(u.cached_tokens * s.share) as cached_tokens,
    trim_scale(u.credits_usd * s.share) as credits_usd,
    trim_scale(u.byok_usd * s.share) as byok_usd
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= :day and s.valid_to > :day
join ref.account a on a.account_id = u.account_id
join ref.company c on c.company_id = s.company_id
join core.model m on m.model_id = u.model_id
join core.provider p on p.provider_id = u.provider_id
join core.account_day d on d.account_id = u.account_id and d.day = u.day
left join core.api_key k on k.key_id = u.key_id
left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null
-- Of rules that match the same, the first that holds for the account on the day is the one that won.
left join lateral (
    select r.line
    from ref.mapping_rule r
    where r.version = (select max(version) from ref.mapping_version) and r.match || ':' || r.pattern = s.rule
        and (r.account is null or r.account = a.account)
        and coalesce(r.valid_from, '-infinity') <= :day and coalesce(r.valid_to, 'infinity') > :day
    order by r.position, r.line
    limit 1
) r on true
where u.day = :day and c.company = :company and (cast(:account as text) is null or a.account = :account)
order by a.account, u.credits_usd * s.share desc, u.byok_usd * s.share desc, v.name, k.key_hash, m.model, p.provider
