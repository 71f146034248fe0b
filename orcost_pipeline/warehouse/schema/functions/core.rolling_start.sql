-- First UTC hour of a rolling period (24h, 7d or 30d) that ends at as_of.
create or replace function core.rolling_start(period text, as_of timestamptz)
returns timestamptz language sql immutable as $$
    select date_trunc('hour', as_of, 'UTC') - case period
        when '24h' then interval '23 hours'
        when '7d' then interval '167 hours'
        else interval '719 hours'
    end
$$;
