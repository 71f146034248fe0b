-- Locks, in one order, of the workspaces with listed keys that the account does not have yet.
select pg_advisory_xact_lock(:kind, hashtext(workspace_id))
from (
    select distinct coalesce(r.workspace_id, r.key_hash) as workspace_id
    from raw.api_key r
    where r.run_id = :extraction_id and r.account = :account and not r.is_deleted
        and not exists (
            select
            from core.api_key k
            join ref.account a using (account_id)
            where a.account = :account and k.key_hash = r.key_hash
        )
    order by 1
) new
