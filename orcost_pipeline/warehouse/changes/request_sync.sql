-- The id of a new request for a sync.
select ops.request_sync(cast(:account as text), cast(:since as date))
