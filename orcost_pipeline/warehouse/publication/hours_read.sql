-- Days of which this run read the hours of every key.
with windows as materialized (
    -- A few rows among those of every key: they are looked up once, not for each day.
    select start_at, end_at
    from raw.usage_question
    where run_id = :extraction_id and account = :account and grain = 'hour' and outcome = 'full' and key_hash is null
)
update core.account_day d
set hours_read_at = :as_of
from windows w
where d.account_id = :account_id and d.hours_read_at is distinct from :as_of
    and w.start_at <= d.day::timestamp at time zone 'UTC' and w.end_at >= (d.day + 1)::timestamp at time zone 'UTC'
