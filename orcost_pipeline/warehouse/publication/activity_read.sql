-- Keys of which this run read all activity, and compared it with what is stored.
update core.api_key k
set activity_read_at = :as_of
from raw.usage_question q
where q.run_id = :extraction_id and q.account = :account and q.grain = 'day' and q.outcome = 'full'
    and k.account_id = :account_id and k.key_hash = q.key_hash and k.activity_read_at is distinct from :as_of
