-- Requests a sync (Sync Now) of an account (null: all accounts); with since, everything from that UTC day on is read
-- again. Returns the request's id in ops.sync_request.

-- Runs with the rights of its owner: callers need no right to write the table. requested_by is the login of the
-- session.
create or replace function ops.request_sync(account text default null, since date default null)
returns bigint language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    insert into ops.sync_request (account, since) values ($1, $2) returning id
$$;
