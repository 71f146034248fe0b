update ops.sync_request
set status = :status, error = :error, run_ids = cast(:run_ids as text[]),
    finished_at = case when :status in ('succeeded', 'failed') then cast(:now as timestamptz) end
where id = any(cast(:ids as bigint[]))
