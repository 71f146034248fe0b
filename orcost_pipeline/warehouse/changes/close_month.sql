-- What the open months of companies are now, which they then stay.
insert into core.closed_month (
    month, company_id, credits_usd, byok_usd, usage_usd, minimum_usd, monthly_fee_usd, purchase_fee_usd, currency, per_usd,
    rate_date, is_settled, as_of
)
select s.month, c.company_id, coalesce(l.credits_usd, 0), coalesce(l.byok_usd, 0), coalesce(l.usage_usd, 0),
    coalesce(l.minimum_usd, 0), coalesce(l.monthly_fee_usd, 0), coalesce(l.purchase_fee_usd, 0), k.currency, k.per_usd,
    k.rate_date, s.is_settled, s.as_of
from marts.company_charge_monthly s
join ref.company c using (company)
join core.month_currency k on k.month = s.month and k.company_id = c.company_id
left join core.charge_month l on l.month = s.month and l.company_id = c.company_id
where s.month = :month and s.status = 'open' and (cast(:company as text) is null or c.company = :company)
