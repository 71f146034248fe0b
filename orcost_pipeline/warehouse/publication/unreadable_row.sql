-- One row per endpoint, API key (0: none), field and instant of what could not be read in this run.
create temporary table staged_unreadable_row on commit drop as
with unread as (
    select r.relation, r.endpoint, coalesce(k.key_id, 0) as key_id, r.field, coalesce(r.grain, '') as grain,
        coalesce(r.at, '-infinity') as at, sum(r.rows)::integer as rows
    from raw.unreadable r
    left join core.api_key k on k.account_id = :account_id and k.key_hash = r.key_hash
    where r.run_id = :extraction_id and r.account = :account
    group by 1, 2, 3, 4, 5, 6
)
select :account_id ::integer as account_id, relation, endpoint, key_id, field, grain, at, t.rows,
    coalesce(o.noticed_at, :as_of ::timestamptz) as noticed_at
from unread t
left join (select * from core.unreadable_row where account_id = :account_id) o
    using (relation, endpoint, key_id, field, grain, at)
