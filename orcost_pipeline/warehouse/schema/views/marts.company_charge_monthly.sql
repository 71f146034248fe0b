-- One row per UTC month and company, over all accounts: spend, what is charged for it, and the margin. A closed month
-- keeps the figures it was closed with; later changes are adjustments of a later month. Amounts are exact.
create or replace view marts.company_charge_monthly as
with span as (
    select month, max(known_from) as known_from, bool_and(is_complete) as is_complete,
        bool_and(is_settled) as is_settled, min(a.as_of) as as_of
    from core.month_span
    join ref.account a using (account_id)
    group by month
), adjusted as (
    select booked_month as month, company_id, sum(amount_usd) as amount_usd, sum(credits_usd) as credits_usd,
        sum(purchase_fee_usd) as purchase_fee_usd
    from core.adjustment
    group by booked_month, company_id
), own as (
    select month, company_id, credits_usd, byok_usd, usage_usd, minimum_usd, monthly_fee_usd, purchase_fee_usd,
        null as currency, 'open' as status, null::boolean as is_settled, null::timestamptz as as_of
    from core.charge_month l
    where not exists (select from core.closed c where c.month = l.month and c.company_id = l.company_id)
    union all
    select month, company_id, credits_usd, byok_usd, usage_usd, minimum_usd, monthly_fee_usd, purchase_fee_usd,
        currency, 'closed', is_settled, as_of
    from core.closed_month
), charged as (
    select month, company_id, coalesce(o.credits_usd, 0) as credits_usd, coalesce(o.byok_usd, 0) as byok_usd,
        coalesce(o.usage_usd, 0) as usage_usd, coalesce(o.minimum_usd, 0) as minimum_usd,
        coalesce(o.monthly_fee_usd, 0) + coalesce(o.purchase_fee_usd, 0) as fees_usd,
        coalesce(o.purchase_fee_usd, 0) + coalesce(j.purchase_fee_usd, 0) + coalesce(j.credits_usd, 0)
            + coalesce(o.credits_usd, 0) as cost_usd,
        coalesce(j.amount_usd, 0) as adjustments_usd, o.currency, coalesce(o.status, 'open') as status, o.is_settled,
        o.as_of
    from own o
    full join adjusted j using (month, company_id)
)
select
    t.month, c.company, trim_scale(t.credits_usd) as credits_usd, trim_scale(t.byok_usd) as byok_usd,
    trim_scale(t.usage_usd) as usage_usd, trim_scale(t.minimum_usd) as minimum_usd, trim_scale(t.fees_usd) as fees_usd,
    trim_scale(t.adjustments_usd) as adjustments_usd, trim_scale(s.total_usd) as total_usd,
    trim_scale(s.total_usd - t.cost_usd) as margin_usd, coalesce(t.currency, c.currency, 'USD') as currency, t.status,
    coalesce(t.is_settled, m.is_settled, false) as is_settled,
    coalesce(t.as_of, m.as_of, (select min(as_of) from ref.account)) as as_of, m.known_from,
    coalesce(m.is_complete, false) as is_complete, c.display_name, c.external_id
from charged t
cross join lateral (select t.usage_usd + t.minimum_usd + t.fees_usd + t.adjustments_usd as total_usd) s
join ref.company c using (company_id)
left join span m using (month);
