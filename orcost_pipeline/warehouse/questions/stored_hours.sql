select u.*, (u.hour at time zone 'UTC')::date as day, k.key_hash, m.model
from unnest(cast(:starts as timestamptz[]), cast(:ends as timestamptz[])) as w (start_at, end_at)
join core.usage_hourly u on u.hour >= w.start_at and u.hour < w.end_at
join core.model m using (model_id)
left join core.api_key k using (key_id)
where u.account_id = :account_id
