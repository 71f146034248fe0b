-- One row per key to roll up, company, rolling period and whether it is the period before.
create temporary table rolled_key on commit drop as
with period (period, is_previous, newest, oldest) as (
    values ('24h', false, 1, 1), ('7d', false, 1, 3), ('30d', false, 1, 5),
        ('24h', true, 2, 2), ('7d', true, 4, 4), ('30d', true, 6, 6)
)
select u.key_id, s.company_id, p.period, p.is_previous, sum(u.requests * s.share) as requests,
    sum(u.prompt_tokens * s.share) as prompt_tokens, sum(u.completion_tokens * s.share) as completion_tokens,
    sum(u.reasoning_tokens * s.share) as reasoning_tokens, sum(u.cached_tokens * s.share) as cached_tokens,
    sum(u.credits_usd * s.share) as credits_usd, sum(u.byok_usd * s.share) as byok_usd
from rolled_usage u
join period p on u.segment between p.newest and p.oldest
join core.assignment s on s.account_id = :account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
group by u.key_id, s.company_id, p.period, p.is_previous
