-- One row per touched UTC hour and company: spend. It is stored as it is asked for, hour after hour.
create temporary table staged_company_hour on commit drop as
select u.hour, u.account_id, s.company_id, sum(u.requests * s.share) as requests,
    sum(u.prompt_tokens * s.share) as prompt_tokens, sum(u.completion_tokens * s.share) as completion_tokens,
    sum(u.reasoning_tokens * s.share) as reasoning_tokens, sum(u.cached_tokens * s.share) as cached_tokens,
    sum(u.credits_usd * s.share) as credits_usd, sum(u.byok_usd * s.share) as byok_usd
from core.usage_hourly u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= (u.hour at time zone 'UTC')::date and s.valid_to > (u.hour at time zone 'UTC')::date
where u.account_id = :account_id and u.hour = any(array(select distinct hour from touched_hour))
group by u.hour, u.account_id, s.company_id
order by u.hour
