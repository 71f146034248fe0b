-- Every version of every key of the account, oldest first.
select k.key_hash, v.*
from core.api_key k
join core.api_key_version v using (key_id)
where k.account_id = :account_id
order by k.key_id, v.valid_from
