-- Status of a monthly budget: exceeded, at_risk (by the forecast), near (from a percentage of the budget on), or ok.

create or replace function core.budget_status(
    budget_usd numeric, spent_usd numeric, forecast_usd numeric, near_percent numeric
)
returns text language sql immutable as $$
    select case
        when spent_usd >= budget_usd then 'exceeded'
        when forecast_usd >= budget_usd then 'at_risk'
        when 100 * spent_usd >= near_percent * budget_usd then 'near'
        else 'ok'
    end
$$;
