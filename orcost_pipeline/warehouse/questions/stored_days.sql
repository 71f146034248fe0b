select u.*, k.key_hash, m.model
from unnest(cast(:firsts as date[]), cast(:ends as date[])) as w (first_day, end_day)
join core.usage_daily u on u.day >= w.first_day and u.day < w.end_day
join core.model m using (model_id)
left join core.api_key k using (key_id)
where u.account_id = :account_id
