select a.account, a.as_of, c.company,
    s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens, s.cached_tokens, s.credits_usd, s.byok_usd
from (
    select d.day, d.account_id, d.company_id, d.requests, d.prompt_tokens, d.completion_tokens,
        d.reasoning_tokens, d.cached_tokens, d.credits_usd, d.byok_usd
    from core.company_day d
    where d.day >= :first and d.day < :last
    union all
    select (e.hour at time zone 'UTC')::date, e.account_id, e.company_id, e.requests, e.prompt_tokens,
        e.completion_tokens, e.reasoning_tokens, e.cached_tokens, e.credits_usd, e.byok_usd
    from core.company_hour e
    where e.hour = any(cast(:hours as timestamptz[]))
) s
join ref.account a using (account_id)
join ref.company c using (company_id)
where (cast(:account as text) is null or a.account = :account)
    and (cast(:company as text) is null or c.company = :company)
