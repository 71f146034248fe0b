-- One row per UTC hour and company that got or lost keys, in the hours in which it did: spend. Other companies keep
-- theirs. If nothing moved, no hour is read.
create temporary table staged_moved_company_hour on commit drop as
with owned as (
    select s.key_id, s.company_id, s.share,
        greatest(s.valid_from::timestamp at time zone 'UTC', m.start_at) as start_at,
        least(s.valid_to::timestamp at time zone 'UTC', m.end_at) as end_at
    from moved_company m
    join core.assignment s on s.account_id = :account_id and s.company_id = m.company_id
)
select u.hour, u.account_id, o.company_id, sum(u.requests * o.share) as requests,
    sum(u.prompt_tokens * o.share) as prompt_tokens, sum(u.completion_tokens * o.share) as completion_tokens,
    sum(u.reasoning_tokens * o.share) as reasoning_tokens, sum(u.cached_tokens * o.share) as cached_tokens,
    sum(u.credits_usd * o.share) as credits_usd, sum(u.byok_usd * o.share) as byok_usd
from core.usage_hourly u
join owned o on o.key_id = u.key_id and u.hour >= o.start_at and u.hour < o.end_at
where u.account_id = :account_id and u.hour >= (select min(start_at) from moved_company)
group by u.hour, u.account_id, o.company_id
order by u.hour
