select q.start_at
from raw.usage_question q
join ref.account a using (account)
where a.account_id = :account_id and q.run_id = :extraction_id and q.outcome = 'unexplained'
