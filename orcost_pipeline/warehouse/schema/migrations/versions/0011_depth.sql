-- Every relation of a period says from when it is known and whether it is whole.

alter view marts.key_spend_rolling rename column hours_known_from to known_from;
alter view marts.company_spend_rolling rename column hours_known_from to known_from;

create or replace view marts.key_spend_rolling as
select
    a.account, k.key_hash, c.company, r.period, v.name as key_name, a.as_of, r.requests, r.prompt_tokens,
    r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd,
    greatest(a.hours_from, core.rolling_start(r.period, a.as_of)) as known_from,
    a.hours_from <= core.rolling_start(r.period, a.as_of) as is_complete,
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
    greatest(a.hours_from, core.rolling_start(r.period, a.as_of)) as known_from,
    a.hours_from <= core.rolling_start(r.period, a.as_of) as is_complete,
    c.display_name, c.external_id, c.cost_centre, c.owner_email
from core.company_rolling r
join ref.account a using (account_id)
join ref.company c using (company_id);

-- What is known of a span of whole hours up to each account's as_of: whole UTC days as days, what is left as hours.

create function core.known_span(start_at timestamptz, end_at timestamptz)
returns table (account_id smallint, known_from timestamptz, is_complete boolean)
language sql stable as $$
    with span as (
        select a.account_id, a.hours_from, least(end_at, a.as_of) as end_at, s.first_day, e.end_day,
            s.first_day::timestamp at time zone 'UTC' as days_start_at,
            greatest(e.end_day::timestamp at time zone 'UTC', start_at) as days_end_at
        from ref.account a
        cross join lateral (
            select ((start_at - interval '1 microsecond') at time zone 'UTC')::date + 1 as first_day
        ) s
        -- The running day is known as a day.
        cross join lateral (
            select (least(end_at, date_trunc('day', a.as_of, 'UTC') + interval '1 day') at time zone 'UTC')::date as end_day
        ) e
        where a.as_of is not null
    ), edge as (
        select account_id, hours_from, start_at, least(days_start_at, end_at) as end_at from span
        union all
        select account_id, hours_from, days_end_at, end_at from span where days_start_at <= days_end_at
    ), part as (
        select e.account_id, case when e.hours_from < e.end_at then greatest(e.start_at, e.hours_from) end as known_from,
            e.hours_from <= e.start_at as is_complete
        from edge e
        where e.start_at < e.end_at
        union all
        select s.account_id, min(d.day)::timestamp at time zone 'UTC', count(d.day) = s.end_day - s.first_day
        from span s
        left join core.account_day d on d.account_id = s.account_id and d.day >= s.first_day and d.day < s.end_day
        where s.first_day < s.end_day
        group by s.account_id, s.first_day, s.end_day
    )
    select p.account_id, min(p.known_from), bool_and(p.is_complete)
    from part p
    group by p.account_id
$$;

create or replace view marts.company_spend_monthly as
with days as (
    select s.*, date_trunc('month', s.day::timestamp)::date as month from core.company_day s
), months as (
    select d.account_id, m.month, min(d.day)::timestamp at time zone 'UTC' as known_from,
        count(*) = least(m.next_month, (a.as_of at time zone 'UTC')::date + 1) - m.month as is_complete,
        count(*) filter (where d.is_settled) = m.next_month - m.month as is_settled
    from core.account_day d
    join ref.account a using (account_id)
    cross join lateral (
        select date_trunc('month', d.day::timestamp)::date as month,
            (date_trunc('month', d.day::timestamp) + interval '1 month')::date as next_month
    ) m
    group by d.account_id, a.as_of, m.month, m.next_month
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
    m.is_settled, a.as_of, c.display_name, c.external_id, c.cost_centre, c.owner_email, m.known_from, m.is_complete
from days s
join months m using (account_id, month)
join ref.account a using (account_id)
join ref.company c using (company_id)
group by a.account, a.as_of, s.month, c.company_id, m.is_settled, m.known_from, m.is_complete;

-- Whole UTC days come from the days and nowhere else, so that any range of them sums as the daily and monthly relations
-- do; only the edges come from the hours.

drop function marts.company_spend_between(timestamptz, timestamptz);
create function marts.company_spend_between(start_at timestamptz, end_at timestamptz)
returns table (
    company text, requests numeric, prompt_tokens numeric, completion_tokens numeric, reasoning_tokens numeric,
    cached_tokens numeric, credits_usd numeric, byok_usd numeric, known_from timestamptz, is_complete boolean
)
language plpgsql stable as $$
declare
    first_day date := ((start_at - interval '1 microsecond') at time zone 'UTC')::date + 1;
    end_day date := (end_at at time zone 'UTC')::date;
    days_start_at timestamptz := least(first_day::timestamp at time zone 'UTC', end_at);
    days_end_at timestamptz := greatest(end_day::timestamp at time zone 'UTC', days_start_at);
begin
    if start_at is null or end_at is null or start_at > end_at then
        raise exception 'start_at must not be later than end_at' using errcode = '22023';
    end if;
    if start_at <> date_trunc('hour', start_at, 'UTC') or end_at <> date_trunc('hour', end_at, 'UTC') then
        raise exception 'start_at and end_at must be whole UTC hours' using errcode = '22023';
    end if;
    return query
    with parts as (
        select s.account_id, s.company_id, s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens,
            s.cached_tokens, s.credits_usd, s.byok_usd
        from core.company_day s
        where s.day >= first_day and s.day < end_day
        union all
        select s.account_id, s.company_id, u.requests * s.share, u.prompt_tokens * s.share,
            u.completion_tokens * s.share, u.reasoning_tokens * s.share, u.cached_tokens * s.share,
            u.credits_usd * s.share, u.byok_usd * s.share
        from (values (start_at, days_start_at), (days_end_at, end_at)) as edge (start_at, end_at)
        join core.usage_hourly u on u.hour >= edge.start_at and u.hour < edge.end_at
        join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
            and s.valid_from <= (u.hour at time zone 'UTC')::date and s.valid_to > (u.hour at time zone 'UTC')::date
    )
    select c.company, sum(p.requests), sum(p.prompt_tokens), sum(p.completion_tokens), sum(p.reasoning_tokens),
        sum(p.cached_tokens), sum(p.credits_usd), sum(p.byok_usd), max(k.known_from), bool_and(k.is_complete)
    from parts p
    join ref.company c using (company_id)
    -- Of the accounts that the company has spend of.
    left join core.known_span(start_at, end_at) k using (account_id)
    group by c.company
    order by sum(p.credits_usd) desc, c.company;
end
$$;

-- The next sync reads as far back as the first one of a new account does.
update ref.account set full_pass_at = null;
