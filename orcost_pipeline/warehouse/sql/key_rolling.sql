-- One row per API key (0: no key), company and rolling period; a living key without usage is there with 0.
create temporary table staged_key_rolling on commit drop as
with period (period, start_at) as (
    values ('24h', :this_hour ::timestamptz - interval '23 hours'),
        ('7d', :this_hour ::timestamptz - interval '167 hours'),
        ('30d', :this_hour ::timestamptz - interval '719 hours')
), used as (
    select s.key_id, s.company_id, p.period, sum(u.requests * s.share) as requests,
        sum(u.prompt_tokens * s.share) as prompt_tokens, sum(u.completion_tokens * s.share) as completion_tokens,
        sum(u.reasoning_tokens * s.share) as reasoning_tokens, sum(u.cached_tokens * s.share) as cached_tokens,
        sum(u.credits_usd * s.share) as credits_usd, sum(u.byok_usd * s.share) as byok_usd
    from core.usage_hourly u
    join period p on u.hour >= p.start_at
    join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
        and s.valid_from <= (u.hour at time zone 'UTC')::date and s.valid_to > (u.hour at time zone 'UTC')::date
    where u.account_id = :account_id and u.hour >= :this_hour ::timestamptz - interval '719 hours'
    group by s.key_id, s.company_id, p.period
), living as (
    select k.key_id, s.company_id, p.period
    from core.api_key k
    join core.assignment s on s.account_id = k.account_id and s.key_id = k.key_id
        and s.valid_from <= (:as_of at time zone 'UTC')::date and s.valid_to > (:as_of at time zone 'UTC')::date
    cross join period p
    where k.account_id = :account_id and k.deleted_at is null
)
select :account_id ::smallint as account_id, key_id, company_id, period, coalesce(u.requests, 0) as requests,
    coalesce(u.prompt_tokens, 0) as prompt_tokens, coalesce(u.completion_tokens, 0) as completion_tokens,
    coalesce(u.reasoning_tokens, 0) as reasoning_tokens, coalesce(u.cached_tokens, 0) as cached_tokens,
    coalesce(u.credits_usd, 0) as credits_usd, coalesce(u.byok_usd, 0) as byok_usd
from used u
full join living l using (key_id, company_id, period)
