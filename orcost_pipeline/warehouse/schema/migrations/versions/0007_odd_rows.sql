-- What could not be read, by endpoint and field: a row that is odd is left out by itself, and counted.

create table raw.unreadable (
    account text not null,
    as_of timestamptz not null,
    run_id text not null,
    relation text not null,
    endpoint text not null,
    field text not null,
    key_hash text,
    grain text,
    at timestamptz,
    rows integer not null
);
create index on raw.unreadable (run_id, account);
create index on raw.unreadable using brin (as_of);

-- `at` is -infinity, and `grain` blank, where no figure of a day lacks it or nobody can say of which.
create table core.unreadable_row (
    account_id smallint not null references ref.account,
    relation text not null,
    endpoint text not null,
    key_id integer not null,
    field text not null,
    grain text not null,
    at timestamptz not null,
    rows integer not null,
    noticed_at timestamptz not null,
    primary key (account_id, relation, endpoint, key_id, field, grain, at)
);

create view ops.unreadable_row as
select a.account, u.endpoint, u.field, k.key_hash, nullif((u.at at time zone 'UTC')::date, '-infinity') as day,
    sum(u.rows) as rows, min(u.noticed_at) as noticed_at
from core.unreadable_row u
join ref.account a using (account_id)
left join core.api_key k using (key_id)
group by a.account, u.endpoint, u.field, k.key_hash, 5;

alter table raw.usage_question drop constraint usage_question_outcome_check;
alter table raw.usage_question add constraint usage_question_outcome_check
    check (outcome in ('answered', 'silent', 'unexplained', 'named', 'covered', 'heard'));

alter table raw.account
    alter column usage_usd drop not null,
    alter column usage_daily_usd drop not null,
    alter column usage_weekly_usd drop not null,
    alter column usage_monthly_usd drop not null,
    alter column byok_usage_usd drop not null,
    alter column byok_usage_daily_usd drop not null,
    alter column byok_usage_weekly_usd drop not null,
    alter column byok_usage_monthly_usd drop not null;
alter table raw.workspace alter column workspace_name drop not null;

create or replace view marts.reconciliation_daily as
with named as (
    select u.account_id, u.day, string_agg(u.cause, '; ' order by u.usd desc, u.cause) as cause
    from (
        select account_id, day, cause, sum(credits_usd + byok_usd) as usd
        from core.unkeyed_day
        group by account_id, day, cause
    ) u
    join ref.account a using (account_id)
    where abs(u.usd) > a.tolerance_usd
    group by u.account_id, u.day
), restated as (
    select account, day, sum(credits_usd_after - credits_usd_before) as credits_usd,
        sum(byok_usd_after - byok_usd_before) as byok_usd
    from ops.restatement
    group by account, day
), unread as (
    -- Days whose figures lack what could not be read.
    select distinct account_id, (at at time zone 'UTC')::date as day
    from core.unreadable_row
    where at > '-infinity'
), compared as (
    select a.account, a.as_of, a.tolerance_usd, d.account_id, d.day, d.account_credits_usd, d.keys_credits_usd,
        d.account_byok_usd, d.keys_byok_usd, d.hours_credits_usd, d.hours_byok_usd, d.keys_hours_credits_usd,
        d.keys_hours_byok_usd, d.keys_activity_credits_usd, d.keys_activity_byok_usd, d.counters_credits_usd,
        d.counters_byok_usd,
        d.account_credits_usd - d.keys_credits_usd as residual_credits_usd,
        d.account_byok_usd - d.keys_byok_usd as residual_byok_usd,
        -- Hours that follow from counters are no witness of a single day.
        case when not d.is_counted then greatest(
            abs(d.account_credits_usd - d.hours_credits_usd), abs(d.account_byok_usd - d.hours_byok_usd)
        ) end as apart_usd,
        -- Hours that stand where the day stood before it was restated.
        greatest(
            abs(d.account_credits_usd - d.hours_credits_usd - r.credits_usd),
            abs(d.account_byok_usd - d.hours_byok_usd - r.byok_usd)
        ) as apart_but_for_restatement_usd,
        case when lag(d.day) over in_time = d.day - 1
            then d.credits_used_usd - lag(d.credits_used_usd) over in_time end as credits_endpoint_usd
    from core.account_day d
    join ref.account a using (account_id)
    left join restated r on r.account = a.account and r.day = d.day
    window in_time as (partition by d.account_id order by d.day)
), disagreeing as (
    select c.*,
        case
            when u.day is not null then 'a row that could not be read'
            when apart_usd > tolerance_usd and coalesce(apart_but_for_restatement_usd, apart_usd) > tolerance_usd
                then 'hours and activity disagree'
            when least(residual_credits_usd, residual_byok_usd) < -tolerance_usd then 'the keys report more than the account'
        end as disagreement,
        case when apart_usd > tolerance_usd then 'a restated day' end as restatement,
        case when greatest(residual_credits_usd, residual_byok_usd) > tolerance_usd
            then coalesce(n.cause, 'spend without a key, or of a key never listed') end as unexplained
    from compared c
    left join named n using (account_id, day)
    left join unread u using (account_id, day)
)
select account, day, account_credits_usd, keys_credits_usd, residual_credits_usd, account_byok_usd, keys_byok_usd,
    residual_byok_usd, hours_credits_usd,
    case
        when disagreement is not null then 'open'
        when coalesce(restatement, unexplained) is not null then 'explained'
        else 'closed'
    end as status,
    coalesce(disagreement, nullif(concat_ws('; ', restatement, unexplained), '')) as cause,
    hours_byok_usd, keys_hours_credits_usd, keys_hours_byok_usd, keys_activity_credits_usd, keys_activity_byok_usd,
    counters_credits_usd, counters_byok_usd, credits_endpoint_usd, as_of
from disagreeing;

-- What a limit is measured against: the counter that its reset names, BYOK where the key says so.

alter table raw.api_key add column include_byok_in_limit boolean;
alter table core.api_key_version add column include_byok_in_limit boolean not null default false;

create or replace view ref.api_key_history as
select
    a.account, k.key_hash, v.valid_from, v.valid_to, v.name, v.label, v.workspace_id, v.workspace_name,
    v.creator_user_id, v.creator_email, v.external_user, v.is_disabled, v.is_deleted, v.expires_at, v.limit_usd,
    v.limit_reset, v.include_byok_in_limit
from core.api_key_version v
join core.api_key k using (key_id)
join ref.account a using (account_id);

create or replace view ref.api_key as
select
    a.account, k.key_hash, v.name, v.label, v.workspace_id, v.workspace_name, v.creator_user_id, v.creator_email,
    v.external_user, v.is_disabled, k.created_at, v.expires_at, k.deleted_at, k.first_seen_at, k.last_used_at,
    v.limit_usd, k.limit_remaining_usd, v.limit_reset,
    k.usage_usd, k.usage_daily_usd, k.usage_weekly_usd, k.usage_monthly_usd,
    k.byok_usage_usd, k.byok_usage_daily_usd, k.byok_usage_weekly_usd, k.byok_usage_monthly_usd,
    (
        select case when count(*) = 1 then min(c.company) end
        from core.assignment s
        join ref.company c using (company_id)
        where s.account_id = k.account_id and s.key_id = k.key_id
          and s.valid_from <= (a.as_of at time zone 'UTC')::date and s.valid_to > (a.as_of at time zone 'UTC')::date
    ) as company,
    v.include_byok_in_limit,
    case
        when k.deleted_at is not null then null
        when v.limit_usd <= 0 then 100
        else trim_scale(100 * coalesce(
            u.credits_usd + case when v.include_byok_in_limit then u.byok_usd else 0 end,
            -- A reset that we do not know: what OpenRouter says is left.
            v.limit_usd - k.limit_remaining_usd
        ) / v.limit_usd)
    end as limit_used_percent
from core.api_key k
join ref.account a using (account_id)
join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
left join lateral (
    values (null, k.usage_usd, k.byok_usage_usd),
        ('daily', k.usage_daily_usd, k.byok_usage_daily_usd),
        ('weekly', k.usage_weekly_usd, k.byok_usage_weekly_usd),
        ('monthly', k.usage_monthly_usd, k.byok_usage_monthly_usd)
) as u (reset, credits_usd, byok_usd) on u.reset is not distinct from lower(v.limit_reset);
