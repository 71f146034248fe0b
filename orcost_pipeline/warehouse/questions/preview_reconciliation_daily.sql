select day, account_credits_usd as account, keys_credits_usd as keys, residual_credits_usd as residual, status, cause
from marts.reconciliation_daily
where account = :account
order by day desc
limit :most
