-- A company's part of what its keys used, under the creator and workspace of the day.
select a.account, a.as_of, m.model, h.creator, h.workspace,
    u.requests * o.share as requests, u.prompt_tokens * o.share as prompt_tokens,
    u.completion_tokens * o.share as completion_tokens, u.reasoning_tokens * o.share as reasoning_tokens,
    u.cached_tokens * o.share as cached_tokens, u.credits_usd * o.share as credits_usd,
    u.byok_usd * o.share as byok_usd
from ref.company c
join core.assignment o using (company_id)
join (
    select d.day, d.account_id, d.key_id, d.model_id, d.requests, d.prompt_tokens, d.completion_tokens,
        d.reasoning_tokens, d.cached_tokens, d.credits_usd, d.byok_usd
    from core.usage_daily d
    where d.day >= :first and d.day < :last
    union all
    select (e.hour at time zone 'UTC')::date, e.account_id, e.key_id, e.model_id, e.requests, e.prompt_tokens,
        e.completion_tokens, e.reasoning_tokens, e.cached_tokens, e.credits_usd, e.byok_usd
    from core.usage_hourly e
    where e.hour = any(cast(:hours as timestamptz[]))
) u on u.account_id = o.account_id and u.key_id = o.key_id and u.day >= o.valid_from and u.day < o.valid_to
join ref.account a on a.account_id = u.account_id
join core.model m using (model_id)
left join core.api_key_day_span h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day
where c.company = :company and (cast(:account as text) is null or a.account = :account)
