-- Versions of the account's keys.
delete from core.api_key_version v
using core.api_key k
where v.key_id = k.key_id and k.account_id = :account_id
