-- The account of a run that is a sync was checked.
update ref.account
set checked_at = :now
where account = :account and exists (select from ops.sync_run where run_id = :run_id and account = :account)
