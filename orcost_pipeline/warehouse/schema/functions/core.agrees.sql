-- Whether two amounts in USD for this many requests agree, up to tolerance and rounding; null counts as 0.
create or replace function core.agrees(usd numeric, other_usd numeric, requests numeric, tolerance_usd numeric)
returns boolean language sql immutable as $$
    select abs(coalesce(usd, 0) - coalesce(other_usd, 0)) <= core.tolerated_usd(requests, tolerance_usd)
$$;
