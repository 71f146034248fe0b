-- Restatements of foreign keys on the days that this run asked about.
delete from ops.restatement r
using core.api_key k
cross join forgotten_from t
where r.account = :account and k.key_hash = r.key_hash and r.day >= t.day and k.account_id = :account_id
    and k.key_id in (select key_id from foreign_key)
