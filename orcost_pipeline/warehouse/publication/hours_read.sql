-- Days of which this run read the hours of every key.
update core.account_day d
set hours_read_at = :as_of
from raw.usage_question q
where q.run_id = :extraction_id and q.account = :account and q.grain = 'hour' and q.outcome = 'full'
    and d.account_id = :account_id and d.hours_read_at is distinct from :as_of
    and q.start_at <= d.day::timestamp at time zone 'UTC' and q.end_at >= (d.day + 1)::timestamp at time zone 'UTC'
