select a.account, a.as_of, c.company, r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens,
    r.cached_tokens, r.credits_usd, r.byok_usd, r.previous_credits_usd, r.previous_byok_usd
from core.company_rolling r
join ref.account a using (account_id)
join ref.company c using (company_id)
where r.period = :period and (cast(:account as text) is null or a.account = :account)
    and (cast(:company as text) is null or c.company = :company)
