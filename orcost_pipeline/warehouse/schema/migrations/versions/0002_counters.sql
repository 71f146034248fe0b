-- Accounts without analytics: cost from the counters of their keys.

alter table ref.account add column counted_from timestamptz;

create table core.counter_point (
    account_id smallint not null references ref.account,
    key_id integer not null references core.api_key,
    at timestamptz not null,
    usage_usd numeric not null,
    byok_usage_usd numeric not null,
    primary key (account_id, key_id, at)
);

alter table raw.api_key add column counters_day date;
