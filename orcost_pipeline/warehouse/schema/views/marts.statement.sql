-- One row per UTC month, company and line of its statement: what it is charged, in USD and in its currency. A closed
-- statement keeps the lines it was closed with. Amounts in USD are exact; those in the currency are rounded, and a
-- line of kind rounding makes up the difference to the rounded total.

-- With a window function, conditions on month and company reach the tables; with a relation that is read twice, they
-- would not.
create or replace view marts.statement as
select
    l.month, l.company, x.line, x.kind, x.account, x.key_hash, x.key_name, x.model, x.adjusted_month,
    trim_scale(x.requests) as requests, trim_scale(x.prompt_tokens) as prompt_tokens,
    trim_scale(x.completion_tokens) as completion_tokens, trim_scale(x.credits_usd) as credits_usd,
    trim_scale(x.byok_usd) as byok_usd, trim_scale(x.amount_usd) as amount_usd, x.amount, l.currency, l.per_usd
from (
    select t.*, row_number() over (
            partition by t.month, t.company
            order by t.place, t.account, t.key_name, t.key_hash, t.model, t.adjusted_month
        ) as line,
        count(*) over (partition by t.month, t.company) as lines,
        core.round_half_even(sum(t.amount_usd) over (partition by t.month, t.company) * t.per_usd, t.minor_unit)
            - sum(t.amount) over (partition by t.month, t.company) as missing
    from (
        select n.month, n.company, n.place, n.kind, n.account, n.key_hash, n.key_name, n.model, n.adjusted_month,
            n.requests, n.prompt_tokens, n.completion_tokens, n.credits_usd, n.byok_usd, n.amount_usd,
            core.round_half_even(n.amount_usd * k.per_usd, k.minor_unit) as amount, k.currency, k.minor_unit, k.per_usd
        from (
            select u.month, u.company, u.company_id, 1 as place, 'usage' as kind, a.account, k.key_hash,
                v.name as key_name, m.model, null::date as adjusted_month, u.requests, u.prompt_tokens,
                u.completion_tokens, u.credits_usd, u.byok_usd, u.charge_usd as amount_usd
            from core.usage_line u
            join ref.account a on a.account_id = u.account_id
            join core.model m on m.model_id = u.model_id
            left join core.api_key k on k.key_id = u.key_id
            left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null
            union all
            select l.month, c.company, l.company_id, f.place, f.kind, null, null, null, null, null, null, null, null,
                null, null, f.amount_usd
            from core.charge_month l
            join ref.company c using (company_id)
            cross join lateral (
                values (2, 'minimum', l.minimum_usd), (3, 'monthly_fee', l.monthly_fee_usd),
                    (4, 'purchase_fee', l.purchase_fee_usd)
            ) as f (place, kind, amount_usd)
            where f.amount_usd <> 0
            union all
            select j.booked_month, c.company, j.company_id, 5, 'adjustment', null, null, null, null, j.month, null, null,
                null, j.credits_usd, j.byok_usd, j.amount_usd
            from core.adjustment j
            join ref.company c using (company_id)
        ) n
        join core.month_currency k on k.month = n.month and k.company_id = n.company_id
        where n.company_id <> 0
            and not exists (select from core.closed c where c.month = n.month and c.company_id = n.company_id)
    ) t
) l
cross join lateral (
    select l.line, l.kind, l.account, l.key_hash, l.key_name, l.model, l.adjusted_month, l.requests, l.prompt_tokens,
        l.completion_tokens, l.credits_usd, l.byok_usd, l.amount_usd, l.amount
    union all
    select l.lines + 1, 'rounding', null, null, null, null, null, null, null, null, null, null, 0, l.missing
    where l.line = l.lines and l.missing <> 0
) x
union all
select s.month, c.company, s.line, s.kind, s.account, s.key_hash, s.key_name, s.model, s.adjusted_month, s.requests,
    s.prompt_tokens, s.completion_tokens, s.credits_usd, s.byok_usd, s.amount_usd, s.amount, m.currency, m.per_usd
from core.closed_line s
join core.closed_month m using (month, company_id)
join ref.company c using (company_id)
where s.company_id <> 0;
