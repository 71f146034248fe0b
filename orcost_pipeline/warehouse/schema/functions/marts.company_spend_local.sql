-- One row per local day of a time zone, from first_day up to, but not including, last_day, and company with usage: spend
-- of all accounts. Raises an error for a zone that pg_timezone_names does not name, for a day on which it is not whole
-- hours from UTC, and for a day that begins before the hours are known.

-- Local days are cut from UTC hours; an hour belongs to the owner on its UTC day. A day of a clock change has its 23
-- or 25 hours.
create or replace function marts.company_spend_local(time_zone text, first_day date, last_day date)
returns setof core.company_spend_local
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    days record;
begin
    select * into days from core.local_window(time_zone, first_day, last_day, null);
    return query
    select s.day, c.company, s.requests::numeric(38, 6), s.prompt_tokens::numeric(38, 6),
        s.completion_tokens::numeric(38, 6), s.reasoning_tokens::numeric(38, 6), s.cached_tokens::numeric(38, 6),
        s.credits_usd::numeric(38, 18), s.byok_usd::numeric(38, 18)
    from (
        select (h.hour at time zone time_zone)::date as day, h.company_id, sum(h.requests) as requests,
            sum(h.prompt_tokens) as prompt_tokens, sum(h.completion_tokens) as completion_tokens,
            sum(h.reasoning_tokens) as reasoning_tokens, sum(h.cached_tokens) as cached_tokens,
            sum(h.credits_usd) as credits_usd, sum(h.byok_usd) as byok_usd
        from core.company_hour h
        where h.hour >= days.start_at and h.hour < days.end_at
        group by 1, 2
    ) s
    join ref.company c using (company_id)
    order by s.day, s.credits_usd desc, c.company;
end
$$;
