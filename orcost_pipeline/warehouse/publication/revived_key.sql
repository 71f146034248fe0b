-- One row per API key that is listed and was deleted before: it never was, whatever a sync with another account's key
-- made of it.
create temporary table revived_key on commit drop as
select distinct k.key_id
from core.api_key k
join core.api_key_version v using (key_id)
where v.is_deleted and k.account_id = :account_id
    and exists (
        select from raw.api_key r
        where r.run_id = :extraction_id and r.account = :account and r.key_hash = k.key_hash and not r.is_deleted
    )
