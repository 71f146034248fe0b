-- USD that a company (0: Unattributed, which is never charged) is charged for usage at a price; usage without a price
-- is charged at cost, as OpenRouter charged it.

create or replace function core.charge(
    company_id integer, price core.price, requests numeric, prompt_tokens numeric, completion_tokens numeric,
    credits_usd numeric, byok_usd numeric
)
returns numeric
language sql immutable parallel safe
return case
    when price.plan is not null then credits_usd * price.credits_rate + byok_usd * price.byok_rate
        + prompt_tokens * price.prompt_rate + completion_tokens * price.completion_rate + requests * price.request_rate
    when company_id <> 0 then credits_usd
    else 0
end;
