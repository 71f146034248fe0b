-- One row per account and kind of obstacle: the days of a month that keep it from being closed. For a company with
-- keys or spend in the month, only the accounts that have them count; otherwise all accounts, because the first spend
-- may come from any of them.
with bound as (
    select cast(:month as date) as first_day, (cast(:month as date) + interval '1 month')::date as end_day
), of_company as (
    select s.account_id
    from core.assignment s
    join ref.company c using (company_id)
    cross join bound b
    where c.company = :company and s.valid_from < b.end_day and s.valid_to > b.first_day and s.key_id <> 0
    union
    select s.account_id
    from core.company_day s
    join ref.company c using (company_id)
    cross join bound b
    where c.company = :company and s.day >= b.first_day and s.day < b.end_day
), counting as (
    select account_id, account, as_of, counted_from is not null as is_counted
    from ref.account
    where not exists (select from of_company) or account_id in (select account_id from of_company)
), configured as (
    select t.account_id, t.account, t.as_of, t.is_counted
    from counting t
    where t.account = any(:configured)
    union all
    select null, n.account, null, false
    from unnest(cast(:configured as text[])) as n (account)
    where not exists (select from of_company) and not exists (select from ref.account a where a.account = n.account)
), day as (
    select t.account, t.as_of, g.day::date as day, d.is_settled,
        -- A day without spend has no hours that show it.
        coalesce(d.is_counted, false) or t.is_counted or exists (
            select
            from core.counted_span c
            where c.account_id = t.account_id and c.start_at < (g.day + interval '1 day') at time zone 'UTC'
                and c.end_at > g.day at time zone 'UTC'
        ) as is_counted,
        d.day is not null as is_known, r.status
    from configured t
    cross join bound b
    cross join lateral generate_series(b.first_day::timestamp, b.end_day - interval '1 day', interval '1 day') as g (day)
    left join core.account_day d on d.account_id = t.account_id and d.day = g.day::date
    left join core.reconciled_day r on r.account = t.account and r.day = g.day::date
), found as (
    select account, as_of, day, case
            -- A day is settled once it ended two hours before.
            when as_of is null or as_of < (day + 1)::timestamp at time zone 'UTC' + interval '2 hours' then 'young'
            when is_known and not is_settled and is_counted
                and as_of >= (day + 1)::timestamp at time zone 'UTC' + interval '48 hours' then 'counted'
            when is_known and not is_settled then 'unsettled'
            when status = 'open' then 'open'
        end as kind
    from day
    union all
    select t.account, t.as_of, coalesce(greatest(b.first_day, (s.known_from at time zone 'UTC')::date), b.first_day),
        case when s.month is null then 'unknown' else 'part' end
    from configured t
    cross join bound b
    left join core.month_span s on s.account_id = t.account_id and s.month = b.first_day
    where t.as_of is not null and s.is_complete is not true
    union all
    select t.account, t.as_of, b.first_day, 'pending'
    from configured t
    cross join bound b
    where t.account = any(:outdated)
    union all
    select t.account, t.as_of, b.first_day, 'gone'
    from counting t
    cross join bound b
    where t.account <> all(:configured)
)
select account, kind, min(day) as first_day, max(day) as last_day, count(*) as days, as_of
from found
where kind is not null
group by account, kind, as_of
order by account, kind
