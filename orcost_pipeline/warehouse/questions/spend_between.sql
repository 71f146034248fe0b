select s.*, a.as_of, h.creator, h.workspace
from (
    select d.account, d.day, d.company, d.key_hash, d.key_name, d.model,
        d.requests, d.prompt_tokens, d.completion_tokens, d.reasoning_tokens, d.cached_tokens, d.credits_usd, d.byok_usd
    from core.spend_daily d
    where d.day >= :first and d.day < :last
    union all
    select e.account, (e.hour at time zone 'UTC')::date, e.company, e.key_hash, e.key_name, e.model,
        e.requests, e.prompt_tokens, e.completion_tokens, e.reasoning_tokens, e.cached_tokens, e.credits_usd, e.byok_usd
    from unnest(cast(:hours as timestamptz[])) as edge (hour)
    cross join ref.account a
    -- offset 0 keeps the planner on the index, hour by hour: it does not know how few there are.
    cross join lateral (
        select * from core.spend_hourly h where h.account = a.account and h.hour = edge.hour offset 0
    ) e
) s
join ref.account a using (account)
-- Who held the key on the day of its spend: looked up only for the grains that show it.
left join core.api_key k on :is_by_holder and k.account_id = a.account_id and k.key_hash = s.key_hash
left join core.api_key_day_span h on :is_by_holder and h.key_id = k.key_id
    and h.first_day <= s.day and h.end_day > s.day
where cast(:account as text) is null or s.account = :account
