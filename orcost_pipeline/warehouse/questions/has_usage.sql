select exists (select from raw.usage_question where run_id = :extraction_id and account = :account)
