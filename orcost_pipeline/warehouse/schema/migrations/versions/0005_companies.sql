-- Companies may carry attributes of theirs; those that the list does not name have none.

alter table ref.company
    add column display_name text,
    add column external_id text,
    add column cost_centre text,
    add column owner_email text,
    add column is_listed boolean not null default false;

create or replace view marts.key_spend_rolling as
select
    a.account, k.key_hash, c.company, r.period, v.name as key_name, a.as_of, r.requests, r.prompt_tokens,
    r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd,
    a.hours_from as hours_known_from, a.hours_from <= core.rolling_start(r.period, a.as_of) as is_complete,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
from core.key_rolling r
join ref.account a using (account_id)
join ref.company c using (company_id)
left join core.api_key k on k.key_id = r.key_id
left join core.api_key_version v on v.key_id = r.key_id and v.valid_to is null;

create or replace view marts.company_spend_rolling as
select
    a.account, c.company, r.period, a.as_of, r.requests, r.prompt_tokens, r.completion_tokens, r.reasoning_tokens,
    r.cached_tokens, r.credits_usd, r.byok_usd, r.previous_credits_usd, r.previous_byok_usd,
    a.hours_from as hours_known_from, a.hours_from <= core.rolling_start(r.period, a.as_of) as is_complete,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
from core.company_rolling r
join ref.account a using (account_id)
join ref.company c using (company_id);

create or replace view marts.company_spend_daily as
select
    a.account, s.day, c.company, s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens,
    s.cached_tokens, s.credits_usd, s.byok_usd, d.is_settled, a.as_of,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
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
    m.is_settled, a.as_of, c.display_name, c.external_id, c.cost_centre, c.owner_email
from days s
join months m using (account_id, month)
join ref.account a using (account_id)
join ref.company c using (company_id)
group by a.account, a.as_of, s.month, c.company_id, m.is_settled;

-- What a version of the mapping changed; null in those that came before this was noted.

alter table ref.mapping_version
    add column rules_added integer,
    add column rules_removed integer,
    add column rules_changed integer,
    add column rules_moved integer;

-- Whose a key was and where: a version holds from the UTC day that first saw it, a day uses its last version, and the
-- first reaches back without limit, as it does for rules.

create view core.api_key_day_span as
select *
from (
    select v.key_id,
        case when row_number() over key = 1 then '-infinity' else (v.valid_from at time zone 'UTC')::date end as first_day,
        coalesce((lead(v.valid_from) over key at time zone 'UTC')::date, 'infinity') as end_day,
        coalesce(v.creator_email, v.creator_user_id) as creator, coalesce(v.workspace_name, v.workspace_id) as workspace
    from core.api_key_version v
    window key as (partition by v.key_id order by v.valid_from)
) spans
where first_day < end_day;

create view marts.creator_spend_daily as
select
    a.account, u.day, c.company, h.creator,
    sum(u.requests * s.share) as requests,
    sum(u.prompt_tokens * s.share) as prompt_tokens,
    sum(u.completion_tokens * s.share) as completion_tokens,
    sum(u.reasoning_tokens * s.share) as reasoning_tokens,
    sum(u.cached_tokens * s.share) as cached_tokens,
    sum(u.credits_usd * s.share) as credits_usd,
    sum(u.byok_usd * s.share) as byok_usd,
    d.is_settled, a.as_of
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
join core.account_day d on d.account_id = u.account_id and d.day = u.day
join ref.account a on a.account_id = u.account_id
join ref.company c on c.company_id = s.company_id
left join core.api_key_day_span h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day
group by a.account, a.as_of, u.day, c.company, h.creator, d.is_settled;

create view marts.workspace_spend_daily as
select
    a.account, u.day, c.company, h.workspace,
    sum(u.requests * s.share) as requests,
    sum(u.prompt_tokens * s.share) as prompt_tokens,
    sum(u.completion_tokens * s.share) as completion_tokens,
    sum(u.reasoning_tokens * s.share) as reasoning_tokens,
    sum(u.cached_tokens * s.share) as cached_tokens,
    sum(u.credits_usd * s.share) as credits_usd,
    sum(u.byok_usd * s.share) as byok_usd,
    d.is_settled, a.as_of
from core.usage_daily u
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= u.day and s.valid_to > u.day
join core.account_day d on d.account_id = u.account_id and d.day = u.day
join ref.account a on a.account_id = u.account_id
join ref.company c on c.company_id = s.company_id
left join core.api_key_day_span h on h.key_id = u.key_id and h.first_day <= u.day and h.end_day > u.day
group by a.account, a.as_of, u.day, c.company, h.workspace, d.is_settled;

-- Which line a rule stands on changes with every line above it: it is looked up in the mapping where it is asked for.

alter table core.assignment drop column rule_line;

-- What a key cost in the period before, so that one key that moves costs its own usage and not the account's.

create table core.key_previous (
    account_id smallint not null,
    key_id integer not null,
    company_id integer not null,
    period text not null check (period in ('24h', '7d', '30d')),
    credits_usd numeric not null,
    byok_usd numeric not null,
    primary key (account_id, key_id, company_id, period)
);

insert into core.key_previous
select s.account_id, s.key_id, s.company_id, p.period, sum(u.credits_usd * s.share), sum(u.byok_usd * s.share)
from ref.account a
cross join (values ('24h', interval '24 hours'), ('7d', interval '168 hours'), ('30d', interval '720 hours'))
    as p (period, length)
join core.usage_hourly u on u.account_id = a.account_id
    and u.hour > date_trunc('hour', a.as_of, 'UTC') - 2 * p.length and u.hour <= date_trunc('hour', a.as_of, 'UTC') - p.length
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= (u.hour at time zone 'UTC')::date and s.valid_to > (u.hour at time zone 'UTC')::date
group by s.account_id, s.key_id, s.company_id, p.period;
