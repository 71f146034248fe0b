select s.month, s.company, s.line, s.kind, s.account, s.key_hash, s.key_name, s.model, s.adjusted_month, s.requests,
    s.prompt_tokens, s.completion_tokens, s.credits_usd, s.byok_usd, s.amount_usd, s.amount, s.currency, s.per_usd, j.reason
from marts.statement s
left join ops.adjustment j on s.kind = 'adjustment' and j.company = s.company and j.month = s.adjusted_month
    and j.booked_month = s.month
where s.company = any(:companies) and s.month = :month
order by s.company, s.line
