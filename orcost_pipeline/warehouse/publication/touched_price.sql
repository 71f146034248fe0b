-- One row per price that is new and per one that is no longer; other words of a plan move no money.
create temporary table touched_price on commit drop as
with stored as (
    select company_id, model_id, is_counter, valid_from, valid_to, credits_rate, byok_rate, prompt_rate, completion_rate,
        request_rate, purchase_rate
    from core.price
    where account_id = :account_id
), staged as (
    select company_id, model_id, is_counter, valid_from, valid_to, credits_rate, byok_rate, prompt_rate, completion_rate,
        request_rate, purchase_rate
    from staged_price
)
(select * from staged except select * from stored)
union all
(select * from stored except select * from staged)
