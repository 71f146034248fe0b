-- An amount rounded to a number of decimals, half to even.

create or replace function core.round_half_even(amount numeric, digits integer) returns numeric
language sql immutable parallel safe
return case
    -- Postgres rounds half away from zero.
    when abs(amount - trunc(amount, digits)) * 10::numeric ^ digits = 0.5
        and mod(trunc(amount, digits) * 10::numeric ^ digits, 2) = 0 then trunc(amount, digits)
    else round(amount, digits)
end;
