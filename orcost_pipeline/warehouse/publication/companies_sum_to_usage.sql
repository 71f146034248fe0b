-- Touched and recent days on which the companies' spend is not the usage, to the last digit.
with days as (
    select day from touched_day
    union
    select day from core.account_day where account_id = :account_id and day > (:as_of at time zone 'UTC')::date - 35
), usage as (
    select u.day, sum(u.requests) as requests, sum(u.prompt_tokens + u.completion_tokens) as tokens,
        sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from core.usage_daily u
    where u.account_id = :account_id and u.day in (select day from days)
    group by u.day
), companies as (
    select s.day, sum(s.requests) as requests, sum(s.prompt_tokens + s.completion_tokens) as tokens,
        sum(s.credits_usd) as credits_usd, sum(s.byok_usd) as byok_usd
    from core.company_day s
    where s.account_id = :account_id and s.day in (select day from days)
    group by s.day
)
select day, u.credits_usd as usage_usd, c.credits_usd as companies_usd
from usage u
full join companies c using (day)
where (u.requests, u.tokens, u.credits_usd, u.byok_usd)
    is distinct from (c.requests, c.tokens, c.credits_usd, c.byok_usd)
