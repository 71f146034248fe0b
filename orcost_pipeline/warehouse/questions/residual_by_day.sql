select day, account_credits_usd as whole, abs(residual_credits_usd) as part
from marts.reconciliation_daily
where account = :account
order by day desc
limit :most
