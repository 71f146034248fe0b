-- A company's part of what its keys used, under the creator and workspace of the day.
select a.account, a.as_of, m.model, h.creator, h.workspace,
    e.requests * o.share as requests, e.prompt_tokens * o.share as prompt_tokens,
    e.completion_tokens * o.share as completion_tokens, e.reasoning_tokens * o.share as reasoning_tokens,
    e.cached_tokens * o.share as cached_tokens, e.credits_usd * o.share as credits_usd,
    e.byok_usd * o.share as byok_usd
from ref.account a
join core.usage_hourly e on e.account_id = a.account_id and e.hour >= core.rolling_start(:period, a.as_of)
cross join lateral (select (e.hour at time zone 'UTC')::date as day) d
join core.assignment o on o.account_id = e.account_id and o.key_id = e.key_id
    and o.valid_from <= d.day and o.valid_to > d.day
join ref.company c using (company_id)
join core.model m using (model_id)
left join core.api_key_day_span h on h.key_id = e.key_id and h.first_day <= d.day and h.end_day > d.day
where c.company = :company and (cast(:account as text) is null or a.account = :account)
