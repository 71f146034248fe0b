-- One row per account and UTC day: what OpenRouter charged the account, the part attributed to API keys, and why the
-- sources differ.
create or replace view marts.reconciliation_daily as
select
    account, day,
    account_credits_usd::numeric(38, 18) as account_credits_usd,
    keys_credits_usd::numeric(38, 18) as keys_credits_usd,
    residual_credits_usd::numeric(38, 18) as residual_credits_usd,
    account_byok_usd::numeric(38, 18) as account_byok_usd,
    keys_byok_usd::numeric(38, 18) as keys_byok_usd,
    residual_byok_usd::numeric(38, 18) as residual_byok_usd,
    hours_credits_usd::numeric(38, 18) as hours_credits_usd,
    status, cause,
    hours_byok_usd::numeric(38, 18) as hours_byok_usd,
    keys_hours_credits_usd::numeric(38, 18) as keys_hours_credits_usd,
    keys_hours_byok_usd::numeric(38, 18) as keys_hours_byok_usd,
    keys_activity_credits_usd::numeric(38, 18) as keys_activity_credits_usd,
    keys_activity_byok_usd::numeric(38, 18) as keys_activity_byok_usd,
    counters_credits_usd::numeric(38, 18) as counters_credits_usd,
    counters_byok_usd::numeric(38, 18) as counters_byok_usd,
    credits_endpoint_usd::numeric(38, 18) as credits_endpoint_usd,
    as_of, rounding_usd::numeric(38, 18) as rounding_usd
from core.reconciled_day;
