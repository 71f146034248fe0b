select account, day, account_credits_usd, keys_credits_usd, residual_credits_usd, account_byok_usd, keys_byok_usd,
    residual_byok_usd, hours_credits_usd, keys_hours_credits_usd, keys_activity_credits_usd, counters_credits_usd,
    credits_endpoint_usd, hours_byok_usd, keys_hours_byok_usd, keys_activity_byok_usd, counters_byok_usd, status, cause,
    rounding_usd
from core.reconciled_day
where (cast(:account as text) is null or account = :account) and day >= :first and day <= :last
order by account, day
