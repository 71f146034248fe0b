-- Difference in USD up to which two sums over this many requests agree: the tolerance, plus a millionth of a dollar per
-- request.

-- Analytics round the cost of each request down to a millionth of a dollar, other sources do not. measures.py has the
-- same rule.
create or replace function core.tolerated_usd(requests numeric, tolerance_usd numeric)
returns numeric language sql immutable as $$
    select tolerance_usd + 0.000001 * greatest(requests, 0)
$$;
