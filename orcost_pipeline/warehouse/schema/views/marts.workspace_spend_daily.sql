-- One row per account, UTC day, company and workspace of the API keys (null: unknown): spend.
create or replace view marts.workspace_spend_daily as
select
    a.account, u.day, c.company, h.workspace,
    sum(u.requests * s.share) as requests,
    sum(u.prompt_tokens * s.share) as prompt_tokens,
    sum(u.completion_tokens * s.share) as completion_tokens,
    sum(u.reasoning_tokens * s.share) as reasoning_tokens,
    sum(u.cached_tokens * s.share) as cached_tokens,
    sum(u.credits_usd * s.share) as credits_usd,
    sum(u.byok_usd * s.share) as byok_usd,
    d.is_settled, a.as_of
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
join core.account_day d on d.account_id = u.account_id and d.day = u.day
join ref.account a on a.account_id = u.account_id
join ref.company c on c.company_id = s.company_id
left join core.api_key_day_span h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day
group by a.account, a.as_of, u.day, c.company, h.workspace, d.is_settled;
