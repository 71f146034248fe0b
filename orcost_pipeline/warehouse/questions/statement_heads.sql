-- One row per company: what is said about its statement of a month. A closed month says what it said then.
with span as (
    select max(known_from) as known_from, bool_and(is_complete) as is_complete, bool_and(is_settled) as is_settled
    from core.month_span
    where month = :month
)
select c.company, c.display_name, c.external_id, cast(:month as date) as month,
    case when d.month is null then 'open' else 'closed' end as status, d.closed_at,
    -- Of a company that had nothing when its month was closed, nothing else is kept.
    coalesce(m.as_of, d.closed_at, (select min(as_of) from ref.account)) as data_until,
    coalesce(m.is_settled, s.is_settled, false) as is_settled, coalesce(s.is_complete, false) as is_complete, s.known_from,
    (
        select case when bool_or(r.status = 'open') then 'open' when bool_or(r.status = 'explained') then 'explained'
            else min(r.status) end
        from core.reconciled_day r
        where r.day >= :month and r.day < cast(:month as date) + interval '1 month'
    ) as reconciliation,
    coalesce(m.currency, u.currency) as currency, core.minor_unit(coalesce(m.currency, u.currency)) as minor_unit,
    coalesce(m.per_usd, k.per_usd, case u.currency when 'USD' then 1 end) as per_usd,
    case when m.month is null then k.rate_date else m.rate_date end as rate_date
from ref.company c
cross join span s
left join core.closed d on d.company_id = c.company_id and d.month = :month
left join core.closed_month m on m.company_id = c.company_id and m.month = :month
-- Of any month, also one of which nothing is known.
cross join lateral (select coalesce(c.currency, 'USD') as currency) u
left join lateral (
    select r.per_usd, r.date as rate_date
    from ref.exchange_rate r
    where r.currency = u.currency and u.currency <> 'USD' and r.date < cast(:month as date) + interval '1 month'
    order by r.date desc
    limit 1
) k on true
where c.company = any(:companies)
