-- Views and functions stand in files of their own from here on; what was applied of them is recorded.

create table ops.schema_object (
    name text primary key,
    content_sha256 text not null,
    arguments text,
    applied_at timestamptz not null
);

-- What migrations made before is ours. No text has a blank fingerprint: all of it is replaced once.

insert into ops.schema_object (name, content_sha256, applied_at)
select name, '', now()
from unnest(array[
    'core.api_key_day_span', 'core.rolling_span', 'core.spend_daily', 'core.spend_hourly', 'core.unkeyed_day',
    'marts.company_spend_daily', 'marts.company_spend_monthly', 'marts.company_spend_rolling',
    'marts.creator_spend_daily', 'marts.key_spend_rolling', 'marts.reconciliation_daily', 'marts.unattributed_spend',
    'marts.unkeyed_spend_daily', 'marts.workspace_spend_daily', 'ops.unreadable_row', 'ref.api_key',
    'ref.api_key_history', 'ref.assignment'
]) as name;

insert into ops.schema_object (name, content_sha256, arguments, applied_at)
select n.nspname || '.' || p.proname, '', oidvectortypes(p.proargtypes), now()
from unnest(array[
    'core.agrees(numeric, numeric, numeric, numeric)',
    'core.is_below(numeric, numeric, numeric, numeric, numeric, numeric, numeric)',
    'core.known_span(timestamptz, timestamptz)', 'core.rolling_start(text, timestamptz)',
    'core.tolerated_usd(numeric, numeric)', 'marts.company_spend_between(timestamptz, timestamptz)',
    'ops.request_sync(text, date)'
]) as signature
join pg_proc p on p.oid = to_regprocedure(signature)
join pg_namespace n on n.oid = p.pronamespace;
