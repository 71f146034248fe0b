select day, residual_credits_usd, hours_credits_usd, account_credits_usd, cause
from core.reconciled_day
where account = :account and status = 'open'
order by day desc
