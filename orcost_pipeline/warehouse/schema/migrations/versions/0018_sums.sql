-- What dashboards ask for most is kept as sums, which publications rebuild where usage or its owners changed.

create table core.company_hour (
    hour timestamptz not null,
    account_id integer not null,
    company_id integer not null,
    requests numeric not null,
    prompt_tokens numeric not null,
    completion_tokens numeric not null,
    reasoning_tokens numeric not null,
    cached_tokens numeric not null,
    credits_usd numeric not null,
    byok_usd numeric not null,
    primary key (hour, account_id, company_id)
);

create table core.model_month (
    month date not null,
    account_id integer not null,
    company_id integer not null,
    model_id integer not null,
    requests numeric not null,
    prompt_tokens numeric not null,
    completion_tokens numeric not null,
    reasoning_tokens numeric not null,
    cached_tokens numeric not null,
    credits_usd numeric not null,
    byok_usd numeric not null,
    primary key (month, account_id, company_id, model_id)
);

create table core.holder_day (
    attribute text not null check (attribute in ('creator', 'workspace')),
    day date not null,
    account_id integer not null,
    company_id integer not null,
    is_known boolean not null,
    holder text not null,
    requests numeric not null,
    prompt_tokens numeric not null,
    completion_tokens numeric not null,
    reasoning_tokens numeric not null,
    cached_tokens numeric not null,
    credits_usd numeric not null,
    byok_usd numeric not null,
    primary key (attribute, day, account_id, company_id, is_known, holder)
);

create table core.rolling_total (
    account_id integer not null,
    attribute text not null check (attribute in ('model', 'creator', 'workspace')),
    period text not null check (period in ('24h', '7d', '30d')),
    is_known boolean not null,
    value text not null,
    requests numeric not null,
    prompt_tokens numeric not null,
    completion_tokens numeric not null,
    reasoning_tokens numeric not null,
    cached_tokens numeric not null,
    credits_usd numeric not null,
    byok_usd numeric not null,
    primary key (account_id, attribute, period, is_known, value)
);

-- Facts without statistics, as after a restore, would be joined row by row.
analyze core.usage_hourly, core.usage_daily, core.assignment, core.api_key_version;

insert into core.company_hour
select u.hour, u.account_id, s.company_id, sum(u.requests * s.share), sum(u.prompt_tokens * s.share),
    sum(u.completion_tokens * s.share), sum(u.reasoning_tokens * s.share), sum(u.cached_tokens * s.share),
    sum(u.credits_usd * s.share), sum(u.byok_usd * s.share)
from core.usage_hourly u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= (u.hour at time zone 'UTC')::date and s.valid_to > (u.hour at time zone 'UTC')::date
group by u.hour, u.account_id, s.company_id
order by u.hour, u.account_id, s.company_id;

insert into core.model_month
select date_trunc('month', u.day::timestamp)::date, u.account_id, s.company_id, u.model_id, sum(u.requests * s.share),
    sum(u.prompt_tokens * s.share), sum(u.completion_tokens * s.share), sum(u.reasoning_tokens * s.share),
    sum(u.cached_tokens * s.share), sum(u.credits_usd * s.share), sum(u.byok_usd * s.share)
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
group by 1, u.account_id, s.company_id, u.model_id;

-- Who had a key on which days.

create temporary table held on commit drop as
select *
from (
    select v.key_id,
        case when row_number() over key = 1 then '-infinity' else (v.valid_from at time zone 'UTC')::date end as first_day,
        coalesce((lead(v.valid_from) over key at time zone 'UTC')::date, 'infinity') as end_day,
        coalesce(v.creator_email, v.creator_user_id) as creator,
        coalesce(v.workspace_name, v.workspace_id) as workspace
    from core.api_key_version v
    window key as (partition by v.key_id order by v.valid_from)
) spans
where first_day < end_day;
analyze held;

insert into core.holder_day
select v.attribute, u.day, u.account_id, s.company_id, v.holder is not null, coalesce(v.holder, ''),
    sum(u.requests * s.share), sum(u.prompt_tokens * s.share), sum(u.completion_tokens * s.share),
    sum(u.reasoning_tokens * s.share), sum(u.cached_tokens * s.share), sum(u.credits_usd * s.share),
    sum(u.byok_usd * s.share)
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
left join held h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day
cross join lateral (values ('creator', h.creator), ('workspace', h.workspace)) as v (attribute, holder)
group by 1, 2, 3, 4, 5, 6
order by 1, 2, 3, 4, 5, 6;

-- A rolling period that begins inside a sum of several hours is summed from its end on.

insert into core.rolling_total
select u.account_id, v.attribute, u.period, v.value is not null, coalesce(v.value, ''), sum(u.requests),
    sum(u.prompt_tokens), sum(u.completion_tokens), sum(u.reasoning_tokens), sum(u.cached_tokens), sum(u.credits_usd),
    sum(u.byok_usd)
from (
    select u.account_id, p.period, u.key_id, u.model_id, (u.hour at time zone 'UTC')::date as day,
        sum(u.requests) as requests, sum(u.prompt_tokens) as prompt_tokens,
        sum(u.completion_tokens) as completion_tokens, sum(u.reasoning_tokens) as reasoning_tokens,
        sum(u.cached_tokens) as cached_tokens, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd
    from ref.account a
    cross join (values ('24h', 23), ('7d', 167), ('30d', 719)) as p (period, hours)
    cross join lateral (
        select date_trunc('hour', a.as_of, 'UTC') - p.hours * interval '1 hour' as start_at
    ) r
    left join core.counted_span c on c.account_id = a.account_id and c.start_at < r.start_at and c.end_at > r.start_at
    join core.usage_hourly u on u.account_id = a.account_id and u.hour >= coalesce(c.end_at, r.start_at)
    group by u.account_id, p.period, u.key_id, u.model_id, (u.hour at time zone 'UTC')::date
) u
join core.model m using (model_id)
left join held h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day
cross join lateral (
    values ('model', m.model), ('creator', h.creator), ('workspace', h.workspace)
) as v (attribute, value)
group by 1, 2, 3, 4, 5;

analyze core.company_hour, core.model_month, core.holder_day, core.rolling_total;
