-- One row per stored row that could not be read, and that this run asked about again: a listing as a whole, usage by
-- account or key and time.
create temporary table reread_row on commit drop as
select t.relation, t.endpoint, t.key_id, t.field, t.grain, t.at
from core.unreadable_row t
where t.account_id = :account_id
    and (
        t.relation <> 'usage_hourly' and exists (
            select from raw.extracted e
            where e.run_id = :extraction_id and e.account = :account and e.relation = t.relation
        )
        or exists (
            select from raw.usage_question q
            left join core.api_key k on k.account_id = :account_id and k.key_hash = q.key_hash
            where q.run_id = :extraction_id and q.account = :account and q.outcome in ('heard', 'answered')
                and t.relation = 'usage_hourly' and t.grain in ('', q.grain) and t.key_id = coalesce(k.key_id, 0)
                and (t.at = '-infinity' or (t.at >= q.start_at and t.at < q.end_at))
        )
    )
