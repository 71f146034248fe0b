-- One row per company, closed UTC month and later month in which a change of it is charged: in closed months what was
-- charged, in the month after the last closed one today's difference. A positive amount is an additional charge.
create or replace view ops.adjustment as
select c.company, a.month, a.booked_month, trim_scale(a.amount_usd) as amount_usd,
    trim_scale(a.credits_usd) as credits_usd, trim_scale(a.byok_usd) as byok_usd,
    trim_scale(a.purchase_fee_usd) as purchase_fee_usd, a.reason, a.noticed_at
from core.adjustment a
join ref.company c using (company_id);
