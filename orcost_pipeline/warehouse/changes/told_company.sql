-- One row per company of the list of companies: filled from the list.
create temporary table told_company (
    company text, display_name text, external_id text, cost_centre text, owner_email text
) on commit drop
