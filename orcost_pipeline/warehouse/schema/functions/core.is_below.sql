-- Whether usage is less than other usage: less money, or the same money for fewer requests.

-- Free models cost nothing, so only their requests show that usage is missing.
create or replace function core.is_below(
    credits numeric, byok numeric, requests numeric, than_credits numeric, than_byok numeric, than_requests numeric,
    tolerance_usd numeric
) returns boolean language sql immutable as $$
    select least(credits - than_credits, byok - than_byok)
            < -core.tolerated_usd(greatest(requests, than_requests), tolerance_usd)
        or (greatest(credits - than_credits, byok - than_byok)
                <= core.tolerated_usd(greatest(requests, than_requests), tolerance_usd)
            and requests < than_requests)
$$;
