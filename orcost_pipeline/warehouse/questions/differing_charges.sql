-- The charges of the last 35 days a second time: straight from the rows of the price plans, cell by cell.
with plan as (
    select line, company, charge, value, coalesce(valid_from, '-infinity') as valid_from,
        coalesce(valid_to, 'infinity') as valid_to,
        replace(
            replace(regexp_replace(coalesce(model, '*'), '([\\%_])', '\\\1', 'g'), '*', '%'), '?', '_'
        ) as pattern
    from ref.price_plan
    where version = (select plan_version from ref.account where account = :account)
), cell as (
    select s.day, s.company, s.model, s.source = 'counter' as is_counter, sum(s.requests) as requests,
        sum(s.prompt_tokens) as prompt_tokens, sum(s.completion_tokens) as completion_tokens,
        sum(s.credits_usd) as credits_usd, sum(s.byok_usd) as byok_usd
    from core.spend_daily s
    join ref.account a using (account)
    where s.account = :account and s.day > (a.as_of at time zone 'UTC')::date - 35
    group by s.day, s.company, s.model, is_counter
), held as (
    select distinct on (c.day, c.company, c.model, c.is_counter, p.charge) c.day, c.company, c.model, c.is_counter, p.charge,
        p.value
    from cell c
    join plan p on p.company in (c.company, '*') and c.model like p.pattern and p.valid_from <= c.day and p.valid_to > c.day
    where c.company <> 'Unattributed'
    order by c.day, c.company, c.model, c.is_counter, p.charge, p.line
), price as (
    select day, company, model, is_counter,
        max(value) filter (where charge = 'markup_percent') as markup,
        max(value) filter (where charge = 'byok_percent') as byok,
        max(value) filter (where charge = 'prompt_usd_per_million' and not is_counter) as prompt,
        max(value) filter (where charge = 'completion_usd_per_million' and not is_counter) as completion,
        max(value) filter (where charge = 'request_usd' and not is_counter) as request,
        max(value) filter (where charge = 'credit_purchase_percent') as purchase
    from held
    group by day, company, model, is_counter
), second as (
    select c.day, c.company,
        sum(
            case
                when c.company = 'Unattributed' then 0
                when coalesce(p.prompt, p.completion, p.request) is null
                    then c.credits_usd * (1 + coalesce(p.markup, 0) * 0.01)
                else (c.prompt_tokens * coalesce(p.prompt, 0) + c.completion_tokens * coalesce(p.completion, 0)) * 0.001 * 0.001
                    + c.requests * coalesce(p.request, 0)
            end + c.byok_usd * coalesce(p.byok, 0) * 0.01
        ) as charge_usd,
        sum(c.credits_usd * coalesce(p.purchase, 0) * 0.01) as purchase_fee_usd
    from cell c
    left join price p using (day, company, model, is_counter)
    group by c.day, c.company
)
select t.day, t.company, d.charge_usd, t.charge_usd as second_charge_usd, d.purchase_fee_usd,
    t.purchase_fee_usd as second_purchase_fee_usd
from second t
join ref.company c using (company)
join ref.account a on a.account = :account
left join core.company_day d on d.account_id = a.account_id and d.day = t.day and d.company_id = c.company_id
where (d.charge_usd, d.purchase_fee_usd) is distinct from (t.charge_usd, t.purchase_fee_usd)
order by t.day desc, t.company
