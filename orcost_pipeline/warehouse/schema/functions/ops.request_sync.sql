-- Requests a sync (Sync Now) of an account (null: all accounts); with since, everything from that UTC day on is read
-- again. Returns the request's id in ops.sync_request.
create or replace function ops.request_sync(account text default null, since date default null)
returns bigint language sql volatile as $$
    insert into ops.sync_request (account, since) values ($1, $2) returning id
$$;
