-- What is charged in the month for earlier, closed months.
insert into core.closed_adjustment (
    company_id, month, booked_month, amount_usd, credits_usd, byok_usd, purchase_fee_usd, reason, noticed_at
)
select a.company_id, a.month, a.booked_month, a.amount_usd, a.credits_usd, a.byok_usd, a.purchase_fee_usd, a.reason,
    a.noticed_at
from core.adjustment a
join ref.company c using (company_id)
where a.booked_month = :month and (cast(:company as text) is null or c.company = :company)
    and not exists (
        select
        from core.closed_adjustment k
        where k.company_id = a.company_id and k.month = a.month and k.booked_month = a.booked_month
    )
