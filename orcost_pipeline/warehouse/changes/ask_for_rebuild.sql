-- The next sync replaces what is stored of the account; null takes that back.
update ref.account set rebuild_at = :at where account = :account
