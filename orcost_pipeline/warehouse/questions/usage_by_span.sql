-- One row per UTC month, company, model, kind of source and span of days; :days are the first days of the spans but the
-- first, which is 0.
select date_trunc('month', u.day::timestamp)::date as month, u.company, u.model, u.source = 'counter' as is_counter,
    width_bucket(u.day, cast(:days as date[])) as span,
    sum(u.requests) as requests, sum(u.prompt_tokens) as prompt_tokens, sum(u.completion_tokens) as completion_tokens,
    sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
from core.spend_daily u
group by 1, 2, 3, 4, 5
