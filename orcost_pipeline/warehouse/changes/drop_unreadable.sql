-- What could not be read of a raw relation in this run before.
delete from raw.unreadable where run_id = :extraction_id and account = :account and relation = :relation
