-- The extraction of a run and account, once.
insert into raw.extraction
values (:extraction_id, :account, :as_of, :key_sha256)
on conflict do nothing
