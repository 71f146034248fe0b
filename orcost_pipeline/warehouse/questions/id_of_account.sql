select account_id
from ref.account
where account = :account
