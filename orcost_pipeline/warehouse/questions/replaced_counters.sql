select account, replaced_at, counted_credits_usd, told_credits_usd, counted_byok_usd, told_byok_usd
from ops.counter_replacement
where (cast(:account as text) is null or account = :account) and day = :day
order by account, replaced_at
