-- One row per UTC day to settle and API key that was asked for it and answered.
create temporary table asked_day on commit drop as
select distinct d.day, k.key_id
from raw.usage_question q
join core.api_key k on k.account_id = :account_id and k.key_hash = q.key_hash
join built_day d on d.is_settled and d.start_at >= q.start_at and d.end_at <= q.end_at
where q.run_id = :extraction_id and q.account = :account and q.grain in ('day', 'past_day') and q.outcome = 'answered'
