select exists (select from ref.account where account = :account and rebuild_at is not null)
