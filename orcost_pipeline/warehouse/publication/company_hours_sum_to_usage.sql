-- Touched hours in which the companies' spend is not the usage, to the last digit; and where companies got or lost keys,
-- those of the last 35 days: one statement wrote them, and older hours, alike.
with hours as (
    select hour from touched_hour
    union
    select h.hour
    from generate_series(
        :this_hour ::timestamptz - interval '840 hours', :this_hour ::timestamptz + interval '24 hours', interval '1 hour'
    ) as h (hour)
    where exists (select from moved_company)
), usage as (
    select u.hour, sum(u.requests) as requests, sum(u.prompt_tokens + u.completion_tokens) as tokens,
        sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from core.usage_hourly u
    where u.account_id = :account_id and u.hour = any(array(select hour from hours))
    group by u.hour
), companies as (
    select s.hour, sum(s.requests) as requests, sum(s.prompt_tokens + s.completion_tokens) as tokens,
        sum(s.credits_usd) as credits_usd, sum(s.byok_usd) as byok_usd
    from core.company_hour s
    where s.account_id = :account_id and s.hour = any(array(select hour from hours))
    group by s.hour
)
select hour, u.credits_usd as usage_usd, c.credits_usd as companies_usd
from usage u
full join companies c using (hour)
where (u.requests, u.tokens, u.credits_usd, u.byok_usd)
    is distinct from (c.requests, c.tokens, c.credits_usd, c.byok_usd)
