-- One row per creator or workspace of the keys, UTC day, and company that got or lost keys: spend.
create temporary table staged_moved_holder_day on commit drop as
select v.attribute, u.day, u.account_id, s.company_id, v.holder is not null as is_known,
    coalesce(v.holder, '') as holder, sum(u.requests * s.share) as requests,
    sum(u.prompt_tokens * s.share) as prompt_tokens, sum(u.completion_tokens * s.share) as completion_tokens,
    sum(u.reasoning_tokens * s.share) as reasoning_tokens, sum(u.cached_tokens * s.share) as cached_tokens,
    sum(u.credits_usd * s.share) as credits_usd, sum(u.byok_usd * s.share) as byok_usd
from core.assignment s
join core.usage_daily u on u.account_id = s.account_id and u.key_id = s.key_id
    and u.day >= s.valid_from and u.day < s.valid_to
left join core.api_key_day_span h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day
cross join lateral (values ('creator', h.creator), ('workspace', h.workspace)) as v (attribute, holder)
where s.account_id = :account_id and s.company_id = any(array(select company_id from moved_company))
group by v.attribute, u.day, u.account_id, s.company_id, v.holder
