-- What tells one OpenRouter account from another, what kind of error stopped the last sync, and what the next
-- publication was told to do: go on with a key that looks like another account's, or write everything anew.

alter table raw.extraction add column key_sha256 text;
alter table raw.account add column organization_id text;

alter table ref.account
    add column organization_id text,
    add column error_code text,
    add column confirmed_at timestamptz,
    add column rebuild_at timestamptz;
