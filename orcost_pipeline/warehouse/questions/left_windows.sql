-- Windows of extractions that read usage with the key of this one, and were interrupted before they were published.
select q.run_id, q.start_at, q.end_at
from raw.extraction e
join raw.extraction o on o.run_id = :extraction_id and o.account = e.account
    and o.key_sha256 is not distinct from e.key_sha256
join raw.usage_question q on q.run_id = e.run_id and q.account = e.account
where e.account = :account and e.run_id <> :extraction_id and e.as_of >= :since
    and not exists (select from ref.account a where a.account = e.account and a.as_of >= e.as_of)
    and q.grain = 'hour' and q.outcome = 'full'
order by e.as_of desc, q.start_at
