-- The rows of price, with small ids.
create temporary table staged_price on commit drop as
select :account_id ::smallint as account_id, c.company_id, m.model_id, p.is_counter, p.valid_from, p.valid_to,
    p.credits_rate, p.byok_rate, p.prompt_rate, p.completion_rate, p.request_rate, p.purchase_rate, p.plan
from price p
join ref.company c using (company)
join core.model m using (model)
