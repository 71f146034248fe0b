select a.account, a.as_of, c.company, k.key_hash, v.name as key_name,
    r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd
from core.key_rolling r
join ref.account a using (account_id)
join ref.company c using (company_id)
left join core.api_key k on k.key_id = r.key_id
left join core.api_key_version v on v.key_id = r.key_id and v.valid_to is null
where r.period = :period and (cast(:account as text) is null or a.account = :account)
    and (cast(:company as text) is null or c.company = :company)
