-- One row per company of the list of companies: filled from the list.
create temporary table listed_company (
    company text, display_name text, external_id text, cost_centre text, owner_email text, currency text,
    monthly_budget_usd numeric
) on commit drop
