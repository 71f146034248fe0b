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
    select k.account_id, v.name, bool_or(k.deleted_at is not null) as has_deleted,
        min(coalesce(k.created_at, '-infinity')) filter (where k.deleted_at is null) as first_living_at
    from core.api_key k
    join core.api_key_version v using (key_id)
    group by k.account_id, v.name
), caused as (
    select u.*,
        case
            when u.name = '' then 'spend without a key'
            -- A key that lives, and did then, has its hours within two days; what remains under its name is not its.
            when u.hour + interval '1 hour' > b.first_living_at and u.hour > a.as_of - interval '48 hours' then 'late hours'
            when b.has_deleted then 'spend of a deleted key'
            else 'spend of a key never listed'
        end as cause
    from core.unkeyed_hour u
    join ref.account a using (account_id)
    left join bearers b on b.account_id = u.account_id and b.name = u.name
)
select account_id, (hour at time zone 'UTC')::date as day, nullif(name, '') as key_name, cause,
    sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
from caused
group by 1, 2, 3, 4;

create view marts.unkeyed_spend_daily as
select a.account, u.day, u.key_name, u.cause, u.credits_usd, u.byok_usd
from core.unkeyed_day u
join ref.account a using (account_id);

-- The next sync asks for everything again, and so for the causes of what is stored.
update ref.account set full_pass_at = null;
