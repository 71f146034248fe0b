-- Whether an instant lies within a span for which counters know one sum. A span begins with the first hour after a sync,
-- which knew its own hour in part.
select exists (select from core.counted_span where account_id = :account_id and start_at <= :at and end_at > :at)
