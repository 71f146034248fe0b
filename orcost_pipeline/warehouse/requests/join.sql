-- Requests that a run which has not started yet serves too, unless they ask for days before those that it reads.
update ops.sync_request r
set served_with = r.served_with || jsonb_build_object(cast(:account as text), cast(:leader as bigint))
where r.id = any(cast(:ids as bigint[])) and (r.since is null or r.since >= cast(:since as date))
