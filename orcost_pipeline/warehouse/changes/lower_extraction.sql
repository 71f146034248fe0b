-- The extraction's instant, no later than its answers, though never before what is published.
update raw.extraction e
set as_of = least(e.as_of, greatest(:until, a.as_of))
from ref.account a
where e.run_id = :extraction_id and e.account = :account and a.account = e.account
returning e.as_of
