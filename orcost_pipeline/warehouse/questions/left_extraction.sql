-- The newest extraction that read usage with the key of this one, and was interrupted before it was published.
select e.run_id
from raw.extraction e
join raw.extraction o on o.run_id = :extraction_id and o.account = e.account
    and o.key_sha256 is not distinct from e.key_sha256
where e.account = :account and e.run_id <> :extraction_id and e.as_of >= :since
    and not exists (select from ref.account a where a.account = e.account and a.as_of >= e.as_of)
    and exists (
        select from raw.usage_question q
        where q.run_id = e.run_id and q.account = e.account and q.grain = 'hour' and q.outcome = 'full'
    )
order by e.as_of desc
limit 1
