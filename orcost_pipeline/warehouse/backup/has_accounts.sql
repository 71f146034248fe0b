select exists (select from ref.account) as has_accounts
