-- One row: the UTC hours [start_at, end_at) of the local days of a time zone from first_day up to, but not including,
-- last_day, as far as usage of an account (null: of every account) can be cut into them. Raises an error, 22023, where
-- it cannot, naming what is wrong.

-- Midnight may be missing or come twice on a day of a clock change: a day begins with the first hour that has its
-- date. Future days have no usage, so their UTC offset does not matter.
create or replace function core.local_window(time_zone text, first_day date, last_day date, only_account text)
returns table (start_at timestamptz, end_at timestamptz)
language plpgsql stable as $$
declare
    hours_from timestamptz;
    newest timestamptz;
    odd_day date;
    first_known_day date;
begin
    if time_zone is null or not exists (select from pg_timezone_names z where z.name = time_zone) then
        raise exception 'time zone "%" is not known: it must be a name of pg_timezone_names, such as Europe/Warsaw',
            time_zone using errcode = '22023';
    end if;
    if first_day is null or last_day is null or first_day > last_day or not isfinite(first_day)
        or not isfinite(last_day)
    then
        raise exception 'first_day must not be later than last_day' using errcode = '22023';
    end if;
    if first_day < '0001-01-01' or last_day > '9999-12-31' then
        raise exception 'days must be of the years 1 to 9999' using errcode = '22023';
    end if;

    select max(a.hours_from), max(a.as_of) into hours_from, newest
    from ref.account a
    where a.as_of is not null and (only_account is null or a.account = only_account);
    select min(h.at) filter (where (h.at at time zone time_zone)::date >= first_day),
        min(h.at) filter (where (h.at at time zone time_zone)::date >= last_day)
    into start_at, end_at
    from (values (first_day), (last_day)) as d (day)
    cross join generate_series(
        (d.day - 1)::timestamp at time zone 'UTC', (d.day + 1)::timestamp at time zone 'UTC', interval '1 hour'
    ) as h (at);

    -- Hours before the known ones are refused below whatever their offset; checking the offset of every hour of years
    -- would take too long.
    select (h.at at time zone time_zone)::date into odd_day
    from (select greatest(start_at, hours_from) as first_hour) k
    cross join generate_series(
        k.first_hour, greatest(k.first_hour, least(end_at - interval '1 hour', newest)), interval '1 hour'
    ) as h (at)
    where extract(minute from h.at at time zone time_zone) <> 0
        or extract(second from h.at at time zone time_zone) <> 0
    order by h.at
    limit 1;
    if odd_day is not null then
        raise exception '% is not whole hours from UTC on %: its days cannot be cut from hours', time_zone, odd_day
            using errcode = '22023';
    end if;

    if start_at < hours_from and start_at < end_at then
        -- The date of the first hour, unless that day began before it.
        first_known_day := ((hours_from - interval '1 hour') at time zone time_zone)::date + 1;
        raise exception '% begins before the known hours in %: the first day that does not is %', first_day, time_zone,
            first_known_day using errcode = '22023';
    end if;
    return next;
end
$$;
