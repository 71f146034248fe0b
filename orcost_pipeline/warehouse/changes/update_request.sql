-- The status of a request, where it differs.
update ops.sync_request
set status = :status, error = :error,
    finished_at = case when :status in ('succeeded', 'failed') then cast(:now as timestamptz) end
where id = :id and (status, error) is distinct from (:status, :error)
