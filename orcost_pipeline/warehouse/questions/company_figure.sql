select a.account, c.company, s.day, d.is_settled, a.as_of,
    s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens, s.cached_tokens, s.credits_usd, s.byok_usd
from core.company_day s
join core.account_day d using (account_id, day)
join ref.account a using (account_id)
join ref.company c using (company_id)
where s.day = :day and c.company = :company and (cast(:account as text) is null or a.account = :account)
