-- One row per account and API key that is not deleted: its age, idle time and used limit, and the recommended actions
-- (advice), as of as_of.
create or replace view marts.key_review as
select
    account, key_hash, key_name, company, created_at, age_days, last_used_at, idle_days,
    limit_usd::numeric(38, 18) as limit_usd,
    limit_used_percent::numeric(38, 18) as limit_used_percent,
    credits_30d_usd::numeric(38, 18) as credits_30d_usd,
    advice, expires_at, as_of
from core.key_review;
