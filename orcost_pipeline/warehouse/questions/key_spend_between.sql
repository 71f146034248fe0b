-- Usage is summed by small ids before it is shared and gets names: a month has many rows, and few keys.
select a.account, a.as_of, c.company, k.key_hash, v.name as key_name,
    s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens, s.cached_tokens, s.credits_usd, s.byok_usd
from (
    select o.account_id, o.key_id, o.company_id, sum(u.requests) * o.share as requests,
        sum(u.prompt_tokens) * o.share as prompt_tokens, sum(u.completion_tokens) * o.share as completion_tokens,
        sum(u.reasoning_tokens) * o.share as reasoning_tokens, sum(u.cached_tokens) * o.share as cached_tokens,
        sum(u.credits_usd) * o.share as credits_usd, sum(u.byok_usd) * o.share as byok_usd
    from (
        select d.day, d.account_id, d.key_id, d.requests, d.prompt_tokens, d.completion_tokens, d.reasoning_tokens,
            d.cached_tokens, d.credits_usd, d.byok_usd
        from core.usage_daily d
        where d.day >= :first and d.day < :last
        union all
        select (e.hour at time zone 'UTC')::date, e.account_id, e.key_id, e.requests, e.prompt_tokens,
            e.completion_tokens, e.reasoning_tokens, e.cached_tokens, e.credits_usd, e.byok_usd
        from core.usage_hourly e
        where e.hour = any(cast(:hours as timestamptz[]))
    ) u
    join core.assignment o on o.account_id = u.account_id and o.key_id = u.key_id
        and o.valid_from <= u.day and o.valid_to > u.day
    -- By the key of the assignment alone, so that the planner knows how few they are.
    group by o.account_id, o.key_id, o.valid_from, o.company_id
) s
join ref.account a using (account_id)
join ref.company c using (company_id)
left join core.api_key k using (key_id)
left join core.api_key_version v on v.key_id = s.key_id and v.valid_to is null
where (cast(:account as text) is null or a.account = :account)
    and (cast(:company as text) is null or c.company = :company)
