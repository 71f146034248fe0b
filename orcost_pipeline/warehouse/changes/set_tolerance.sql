-- The tolerance that comparisons of an account use from now on, in USD.
update ref.account set tolerance_usd = :usd where account_id = :account_id and tolerance_usd <> :usd
