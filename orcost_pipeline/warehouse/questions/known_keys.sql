select account, array_agg(key_hash) as hashes, count(*) filter (where deleted_at is null) as active,
    max(last_used_at) as last_used_at
from ref.api_key
group by account
