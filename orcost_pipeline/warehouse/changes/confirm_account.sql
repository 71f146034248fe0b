-- The key in use is one of this account, whatever it reports; the next publication clears the mark.
update ref.account set confirmed_at = :now where account = :account
