-- One row per company, model, kind of usage and span of UTC days with a price: filled by the price plans.
create temporary table price (
    company text, model text, is_counter boolean, valid_from date, valid_to date, credits_rate numeric,
    byok_rate numeric, prompt_rate numeric, completion_rate numeric, request_rate numeric, purchase_rate numeric, plan text
) on commit drop
