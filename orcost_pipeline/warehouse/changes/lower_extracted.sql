-- The instant of what a run read, that of its extraction.
update raw.extracted set as_of = :as_of where run_id = :extraction_id and account = :account
