select as_of, key_sha256
from raw.extraction
where run_id = :extraction_id and account = :account
