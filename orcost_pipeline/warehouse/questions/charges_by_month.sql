-- Charges computed from today's data, closed months included.
select l.month, c.company, trim_scale(l.usage_usd + l.minimum_usd + l.monthly_fee_usd + l.purchase_fee_usd) as total_usd
from core.charge_month l
join ref.company c using (company_id)
order by l.month, c.company
