-- Held until the transaction ends. Without a name, the class of locks has one lock.
select pg_advisory_xact_lock(:kind, coalesce(hashtext(cast(:name as text)), 0))
