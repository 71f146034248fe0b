-- What an interrupted attempt of an extraction has read stays apart, as an extraction of its own.
insert into raw.extraction (run_id, account, as_of, key_sha256)
select :apart, account, as_of, key_sha256
from raw.extraction
where run_id = :extraction_id and account = :account
on conflict do nothing
