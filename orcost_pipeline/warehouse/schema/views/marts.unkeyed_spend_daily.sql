-- One row per account, UTC day, key name and cause: spend that is not attributed to any listed API key, under the key
-- name that analytics report (null: no key), for the days on which names were queried.
create or replace view marts.unkeyed_spend_daily as
select
    a.account, u.day, u.key_name, u.cause, u.credits_usd::numeric(38, 18) as credits_usd,
    u.byok_usd::numeric(38, 18) as byok_usd, a.as_of
from core.unkeyed_day u
join ref.account a using (account_id);
