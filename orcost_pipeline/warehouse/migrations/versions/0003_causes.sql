-- Usage that no key explains, by the name that analytics show it under.

alter table raw.usage_question drop constraint usage_question_outcome_check;
alter table raw.usage_question add constraint usage_question_outcome_check
    check (outcome in ('answered', 'silent', 'unexplained', 'named'));

create table raw.unkeyed_hour (
    account text not null,
    as_of timestamptz not null,
    run_id text not null,
    hour timestamptz not null,
    name text not null,
    credits_usd numeric not null,
    byok_usd numeric not null
);

create table core.unkeyed_hour (
    account_id smallint not null references ref.account,
    hour timestamptz not null,
    name text not null,
    credits_usd numeric not null,
    byok_usd numeric not null,
    primary key (account_id, hour, name)
);

create view core.unkeyed_day as
with bearers as (
    select k.account_id, v.name, bool_or(k.deleted_at is null) as has_living
    from core.api_key k
    join core.api_key_version v using (key_id)
    group by k.account_id, v.name
)
select
    u.account_id, (u.hour at time zone 'UTC')::date as day, nullif(u.name, '') as key_name,
    case
        when u.name = '' then 'spend without a key'
        when b.has_living then 'late hours'
        when b.name is not null then 'spend of a deleted key'
        else 'spend of a key never listed'
    end as cause,
    sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
from core.unkeyed_hour u
left join bearers b on b.account_id = u.account_id and b.name = u.name
group by 1, 2, 3, 4;

create view marts.unkeyed_spend_daily as
select a.account, u.day, u.key_name, u.cause, u.credits_usd, u.byok_usd
from core.unkeyed_day u
join ref.account a using (account_id);
