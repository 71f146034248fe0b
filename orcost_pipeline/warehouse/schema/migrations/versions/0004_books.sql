-- Days that activity does not reach, told by analytics at the grain of a day.

create table raw.usage_daily (
    account text not null,
    as_of timestamptz not null,
    run_id text not null,
    key_hash text,
    day date not null,
    model text not null,
    requests numeric not null,
    prompt_tokens numeric not null,
    completion_tokens numeric not null,
    reasoning_tokens numeric not null,
    cached_tokens numeric not null,
    credits_usd numeric not null,
    byok_usd numeric not null
);
create index on raw.usage_daily (run_id, account);
create index on raw.usage_daily using brin (as_of);
create index on raw.unkeyed_hour (run_id, account);
create index on raw.unkeyed_hour using brin (as_of);

-- The witnesses of a day are stored; what follows from them, status and cause, is derived where it is read, so that it
-- moves with what is learnt later, such as the deletion of a key.

alter table ref.account add column tolerance_usd numeric not null default 0.000001;

alter table core.account_day
    add column is_counted boolean not null default false,
    add column hours_byok_usd numeric,
    add column keys_hours_credits_usd numeric,
    add column keys_hours_byok_usd numeric,
    add column keys_activity_credits_usd numeric,
    add column keys_activity_byok_usd numeric,
    add column counters_credits_usd numeric,
    add column counters_byok_usd numeric,
    add column credits_used_usd numeric;

update core.account_day d
set hours_byok_usd = case when d.hours_credits_usd is not null then coalesce(h.byok_usd, 0) end,
    keys_hours_credits_usd = case when d.hours_credits_usd is not null then coalesce(h.keys_credits_usd, 0) end,
    keys_hours_byok_usd = case when d.hours_credits_usd is not null then coalesce(h.keys_byok_usd, 0) end,
    is_counted = coalesce(h.is_counted, false)
from core.account_day o
left join (
    select account_id, (hour at time zone 'UTC')::date as day, sum(byok_usd) as byok_usd,
        sum(credits_usd) filter (where key_id <> 0) as keys_credits_usd,
        sum(byok_usd) filter (where key_id <> 0) as keys_byok_usd, bool_or(source = 'counter') as is_counted
    from core.usage_hourly
    group by 1, 2
) h using (account_id, day)
where o.account_id = d.account_id and o.day = d.day;

update core.account_day d
set keys_activity_credits_usd = u.credits_usd, keys_activity_byok_usd = u.byok_usd
from (
    select account_id, day, coalesce(sum(credits_usd) filter (where key_id <> 0), 0) as credits_usd,
        coalesce(sum(byok_usd) filter (where key_id <> 0), 0) as byok_usd
    from core.usage_daily
    where source = 'activity'
    group by 1, 2
) u
where d.is_settled and u.account_id = d.account_id and u.day = d.day;

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
            when apart_usd > tolerance_usd and coalesce(apart_but_for_restatement_usd, apart_usd) > tolerance_usd
                then 'hours and activity disagree'
            when least(residual_credits_usd, residual_byok_usd) < -tolerance_usd then 'the keys report more than the account'
        end as disagreement,
        case when apart_usd > tolerance_usd then 'a restated day' end as restatement,
        case when greatest(residual_credits_usd, residual_byok_usd) > tolerance_usd
            then coalesce(n.cause, 'spend without a key, or of a key never listed') end as unexplained
    from compared c
    left join named n using (account_id, day)
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

alter table core.account_day drop column status, drop column cause;

-- A rolling window that begins before the first known hour says so.

create function core.rolling_start(period text, as_of timestamptz) returns timestamptz language sql immutable as $$
    select date_trunc('hour', as_of, 'UTC') - case period
        when '24h' then interval '23 hours' when '7d' then interval '167 hours' else interval '719 hours'
    end
$$;

create or replace view marts.key_spend_rolling as
select
    a.account, k.key_hash, c.company, r.period, v.name as key_name, a.as_of, r.requests, r.prompt_tokens,
    r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd,
    a.hours_from as hours_known_from, a.hours_from <= core.rolling_start(r.period, a.as_of) as is_complete
from core.key_rolling r
join ref.account a using (account_id)
join ref.company c using (company_id)
left join core.api_key k on k.key_id = r.key_id
left join core.api_key_version v on v.key_id = r.key_id and v.valid_to is null;

create or replace view marts.company_spend_rolling as
select
    a.account, c.company, r.period, a.as_of, r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens,
    r.cached_tokens, r.credits_usd, r.byok_usd, r.previous_credits_usd, r.previous_byok_usd,
    a.hours_from as hours_known_from, a.hours_from <= core.rolling_start(r.period, a.as_of) as is_complete
from core.company_rolling r
join ref.account a using (account_id)
join ref.company c using (company_id);

-- Every mart says how old it is.

create or replace view marts.company_spend_daily as
select
    a.account, s.day, c.company, s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens,
    s.cached_tokens, s.credits_usd, s.byok_usd, d.is_settled, a.as_of
from core.company_day s
join core.account_day d using (account_id, day)
join ref.account a using (account_id)
join ref.company c using (company_id);

create or replace view marts.company_spend_monthly as
with days as (
    select s.*, date_trunc('month', s.day::timestamp)::date as month from core.company_day s
), months as (
    select account_id, date_trunc('month', day::timestamp)::date as month, bool_and(is_settled) as is_settled
    from core.account_day
    group by 1, 2
)
select
    a.account, s.month, c.company,
    sum(s.requests) as requests,
    sum(s.prompt_tokens) as prompt_tokens,
    sum(s.completion_tokens) as completion_tokens,
    sum(s.reasoning_tokens) as reasoning_tokens,
    sum(s.cached_tokens) as cached_tokens,
    sum(s.credits_usd) as credits_usd,
    sum(s.byok_usd) as byok_usd,
    m.is_settled, a.as_of
from days s
join months m using (account_id, month)
join ref.account a using (account_id)
join ref.company c using (company_id)
group by a.account, a.as_of, s.month, c.company, m.is_settled;

create or replace view marts.unattributed_spend as
select
    a.account, k.key_hash, v.name as key_name, min(u.day) as first_day, max(u.day) as last_day,
    sum(u.credits_usd * s.share) as credits_usd, sum(u.byok_usd * s.share) as byok_usd, a.as_of
from core.assignment s
join core.usage_daily u on u.account_id = s.account_id and u.key_id = s.key_id
    and u.day >= s.valid_from and u.day < s.valid_to
join ref.account a on a.account_id = s.account_id
left join core.api_key k on k.key_id = s.key_id
left join core.api_key_version v on v.key_id = s.key_id and v.valid_to is null
where s.company_id = 0
group by a.account, a.as_of, s.key_id, k.key_hash, v.name;

create or replace view marts.unkeyed_spend_daily as
select a.account, u.day, u.key_name, u.cause, u.credits_usd, u.byok_usd, a.as_of
from core.unkeyed_day u
join ref.account a using (account_id);

-- What counters had booked, and what analytics tell of the same days once they answer.

create table ops.counter_replacement (
    account text not null,
    day date not null,
    replaced_at timestamptz not null,
    counted_credits_usd numeric not null,
    told_credits_usd numeric not null,
    counted_byok_usd numeric not null,
    told_byok_usd numeric not null,
    run_id text not null,
    primary key (account, day, replaced_at)
);

alter table raw.usage_question drop constraint usage_question_grain_check;
alter table raw.usage_question add constraint usage_question_grain_check
    check (grain in ('hour', 'day', 'past_day'));
