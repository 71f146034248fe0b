-- One row per company: spend of the UTC hours from start_at up to, but not including, end_at. Raises an error where
-- start_at is later than end_at, or where either is not a whole UTC hour.

-- Whole UTC days come from the days alone, so that any range of days has the sum that the daily and monthly relations
-- have; only the hours before and after them come from the hours.
create or replace function marts.company_spend_between(start_at timestamptz, end_at timestamptz)
returns setof core.company_spend
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
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
        select s.day, s.account_id, s.company_id, s.requests, s.prompt_tokens, s.completion_tokens,
            s.reasoning_tokens, s.cached_tokens, s.credits_usd, s.byok_usd
        from core.company_day s
        where s.day >= first_day and s.day < end_day
        union all
        select (s.hour at time zone 'UTC')::date, s.account_id, s.company_id, s.requests, s.prompt_tokens,
            s.completion_tokens, s.reasoning_tokens, s.cached_tokens, s.credits_usd, s.byok_usd
        from core.company_hour s
        where (s.hour >= start_at and s.hour < days_start_at) or (s.hour >= days_end_at and s.hour < end_at)
    )
    select c.company, sum(p.requests)::numeric(38, 6), sum(p.prompt_tokens)::numeric(38, 6),
        sum(p.completion_tokens)::numeric(38, 6), sum(p.reasoning_tokens)::numeric(38, 6),
        sum(p.cached_tokens)::numeric(38, 6), sum(p.credits_usd)::numeric(38, 18), sum(p.byok_usd)::numeric(38, 18),
        max(k.known_from), bool_and(k.is_complete)
    from parts p
    join ref.company c using (company_id)
    -- Only accounts in which the company has spend.
    left join core.known_span(start_at, end_at) k using (account_id)
    group by c.company
    order by sum(p.credits_usd) desc, c.company;
end
$$;
