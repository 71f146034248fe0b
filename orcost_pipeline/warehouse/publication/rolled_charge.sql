-- One row per key to roll up, company and rolling period: what is charged, by the prices of each day.
create temporary table rolled_charge on commit drop as
with period (period, oldest) as (
    values ('24h', 1), ('7d', 3), ('30d', 5)
)
select u.key_id, s.company_id, p.period,
    sum(
        s.share * core.charge(
            s.company_id, r, u.requests, u.prompt_tokens, u.completion_tokens, u.credits_usd, u.byok_usd
        )
    ) as charge_usd
from rolled_usage u
join period p on u.segment <= p.oldest
join core.assignment s on s.account_id = :account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
left join core.price r on r.account_id = :account_id and r.company_id = s.company_id and r.model_id = u.model_id
    and r.is_counter = u.is_counter and r.valid_from <= u.day and r.valid_to > u.day
group by u.key_id, s.company_id, p.period
