-- A day without the foreign keys that this run does not settle follows from its hours.
update core.account_day d
set is_settled = false
from forgotten_from t
where d.account_id = :account_id and d.day >= :first_day and d.day in (select day from touched_day)
    and not exists (
        select from raw.usage_question q
        where q.run_id = :extraction_id and q.account = :account and q.grain in ('day', 'past_day') and q.key_hash is null
            and q.outcome = 'answered' and (q.start_at at time zone 'UTC')::date = d.day
    )
