-- One row per company and rolling period, with the period before where its hours are known.
create temporary table staged_company_rolling on commit drop as
with period (period, length) as (
    values ('24h', interval '24 hours'), ('7d', interval '168 hours'), ('30d', interval '720 hours')
), now_used as (
    select company_id, period, sum(requests) as requests, sum(prompt_tokens) as prompt_tokens,
        sum(completion_tokens) as completion_tokens, sum(reasoning_tokens) as reasoning_tokens,
        sum(cached_tokens) as cached_tokens, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
    from core.key_rolling
    where account_id = :account_id
    group by company_id, period
), before as (
    select p.period, :this_hour ::timestamptz + interval '1 hour' - 2 * p.length as start_at,
        :this_hour ::timestamptz + interval '1 hour' - p.length as end_at
    from period p
), covered as (
    select b.* from before b where b.start_at >= :hours_from
), previously as (
    select s.company_id, b.period, sum(u.credits_usd * s.share) as credits_usd, sum(u.byok_usd * s.share) as byok_usd
    from covered b
    join core.usage_hourly u on u.hour >= b.start_at and u.hour < b.end_at
    join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
        and s.valid_from <= (u.hour at time zone 'UTC')::date and s.valid_to > (u.hour at time zone 'UTC')::date
    where u.account_id = :account_id
    group by s.company_id, b.period
)
select :account_id ::smallint as account_id, company_id, period, coalesce(n.requests, 0) as requests,
    coalesce(n.prompt_tokens, 0) as prompt_tokens, coalesce(n.completion_tokens, 0) as completion_tokens,
    coalesce(n.reasoning_tokens, 0) as reasoning_tokens, coalesce(n.cached_tokens, 0) as cached_tokens,
    coalesce(n.credits_usd, 0) as credits_usd, coalesce(n.byok_usd, 0) as byok_usd,
    case when c.period is not null then coalesce(b.credits_usd, 0) end as previous_credits_usd,
    case when c.period is not null then coalesce(b.byok_usd, 0) end as previous_byok_usd
from now_used n
full join previously b using (company_id, period)
left join covered c using (period)
