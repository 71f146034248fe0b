-- One row per company: the head of its statement of a month. A closed month keeps the head it was closed with. For a
-- company that had nothing in a closed month only the closing is kept, and no figures are given that could change.
with span as (
    select max(known_from) as known_from, bool_and(is_complete) as is_complete, bool_and(is_settled) as is_settled,
        min(a.as_of) as as_of
    from core.month_span
    join ref.account a using (account_id)
    where month = :month
), kept as (
    select c.company_id, c.company, d.month is not null as is_closed, d.closed_at, d.as_of,
        d.month is not null and m.month is null as is_empty,
        case when d.month is null or m.month is not null then coalesce(m.currency, c.currency) end as named_currency,
        case when d.month is null or m.month is not null then c.display_name end as display_name,
        case when d.month is null or m.month is not null then c.external_id end as external_id,
        m.as_of as kept_as_of, m.is_settled as was_settled, m.per_usd as kept_per_usd, m.rate_date as kept_rate_date,
        m.month is not null as is_kept
    from ref.company c
    left join core.closed d on d.company_id = c.company_id and d.month = :month
    left join core.closed_month m on m.company_id = c.company_id and m.month = :month
    where c.company = any(:companies)
), head as (
    select *, coalesce(named_currency, 'USD') as currency
    from kept
)
select h.company, h.display_name, h.external_id, cast(:month as date) as month,
    case when h.is_closed then 'closed' else 'open' end as status, h.closed_at,
    coalesce(
        h.kept_as_of, h.as_of, case when h.is_empty then h.closed_at end, s.as_of, (select min(as_of) from ref.account)
    ) as data_until,
    h.is_empty or coalesce(h.was_settled, s.is_settled, false) as is_settled,
    h.is_empty or coalesce(s.is_complete, false) as is_complete, case when not h.is_empty then s.known_from end as known_from,
    (
        select case when bool_or(r.status = 'open') then 'open' when bool_or(r.status = 'explained') then 'explained'
            else min(r.status) end
        from core.reconciled_day r
        where not h.is_empty and r.day >= :month and r.day < cast(:month as date) + interval '1 month'
    ) as reconciliation,
    h.currency, core.minor_unit(h.currency) as minor_unit,
    coalesce(h.kept_per_usd, k.per_usd, case h.currency when 'USD' then 1 end) as per_usd,
    case when h.is_kept then h.kept_rate_date else k.rate_date end as rate_date,
    (
        select count(distinct p.reopened_at)
        from ops.period_close p
        where p.month = :month and (p.company is null or p.company = h.company)
    ) as reopened,
    v.closed_at as void_closed_at, v.reopened as void_reopened
from head h
cross join span s
-- Any month, even one without data.
left join lateral (
    select r.per_usd, r.date as rate_date
    from ref.exchange_rate r
    where r.currency = h.currency and h.currency <> 'USD' and r.date < cast(:month as date) + interval '1 month'
    order by r.date desc
    limit 1
) k on true
left join lateral (
    select s.closed_at, (
            select count(distinct p.reopened_at)
            from ops.period_close p
            where p.month = :month and (p.company is null or p.company = h.company) and p.reopened_at < s.closed_at
        ) as reopened
    from ops.void_statement s
    where s.month = :month and s.company = h.company
    order by s.closed_at desc
    limit 1
) v on true
