-- What is wrong with the account, unless the run is published.
update ref.account
set status = :status, checked_at = :now, error = :error, error_code = :code
where account = :account
    and not exists (
        select
        from ops.sync_run r
        where r.run_id = :run_id and r.account = :account and r.status = 'succeeded'
    )
