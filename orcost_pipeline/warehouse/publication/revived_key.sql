-- One row per listed API key that has a deleted version: it was never deleted, a sync with another account's key
-- recorded that.
create temporary table revived_key on commit drop as
select distinct k.key_id
from core.api_key k
join core.api_key_version v using (key_id)
where v.is_deleted and k.account_id = :account_id
    and exists (
        select from raw.api_key r
        where r.run_id = :extraction_id and r.account = :account and r.key_hash = k.key_hash and not r.is_deleted
    )
