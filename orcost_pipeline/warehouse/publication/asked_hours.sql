-- One row per API key (0: the account) and span of UTC hours that this run asked for and got an answer.
create temporary table asked_hours on commit drop as
select case when q.key_hash is null then 0 else k.key_id end as key_id, q.start_at, q.end_at
from raw.usage_question q
left join core.api_key k on k.account_id = :account_id and k.key_hash = q.key_hash
where q.run_id = :extraction_id and q.account = :account and q.grain = 'hour' and q.outcome = 'answered'
