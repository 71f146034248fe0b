-- The lines of the statements of a month that is about to be closed.
insert into core.closed_line (
    month, company_id, line, kind, account, key_hash, key_name, model, adjusted_month, requests, prompt_tokens,
    completion_tokens, credits_usd, byok_usd, amount_usd, amount
)
select s.month, c.company_id, s.line, s.kind, s.account, s.key_hash, s.key_name, s.model, s.adjusted_month, s.requests,
    s.prompt_tokens, s.completion_tokens, s.credits_usd, s.byok_usd, s.amount_usd, s.amount
from marts.statement s
join ref.company c using (company)
where s.month = :month and (cast(:company as text) is null or c.company = :company)
    and not exists (select from core.closed d where d.month = s.month and d.company_id = c.company_id)
