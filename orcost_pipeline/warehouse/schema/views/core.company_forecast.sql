-- One row per account, UTC day and company: forecast of the company's spend (credits and BYOK) in the month of the
-- day, made at the start of the day, or at as_of on the day of as_of.

-- Spend so far, plus for each day to come the mean of its weekday over the last 28 days with a final amount: days that
-- are settled, or that ended 48 hours before, as days derived from counters are never settled. A weekday without such
-- a day has the mean of all of them; without any such day there is no forecast.
create or replace view core.company_forecast as
select d.account_id, d.day, d.month, d.is_newest, s.company_id, s.spent_usd,
    case when p.last_day is not null then s.spent_usd + s.to_come_usd end as forecast_usd
from (
    select d.account_id, d.day, t.today = d.day as is_newest,
        date_trunc('month', d.day::timestamp)::date as month,
        (date_trunc('month', d.day::timestamp) + interval '1 month')::date as next_month,
        -- Of the current day, only the remaining part is to come.
        case when t.today = d.day
            then extract(epoch from (d.day + 1)::timestamp at time zone 'UTC' - a.as_of) / 86400
            else 1 end as part_to_come
    from core.account_day d
    join ref.account a using (account_id)
    cross join lateral (select (a.as_of at time zone 'UTC')::date as today) t
) d
cross join lateral (
    select max(k.day) as last_day
    from core.account_day k
    where k.account_id = d.account_id and k.day < d.day and (k.is_settled or k.day < d.day - 2)
) p
cross join lateral (
    with final as (
        select k.day, extract(isodow from k.day) as weekday,
            count(*) over (partition by extract(isodow from k.day)) as of_weekday, count(*) over () as of_all
        from core.account_day k
        where k.account_id = d.account_id and k.day > p.last_day - 28 and k.day <= p.last_day
            and (k.is_settled or k.day < d.day - 2)
    ), to_come as (
        select extract(isodow from g.day) as weekday,
            sum(case when g.day = d.day then d.part_to_come else 1 end) as days
        from generate_series(d.day::timestamp, d.next_month - interval '1 day', interval '1 day') as g (day)
        group by 1
    ), unknown as (
        select coalesce(sum(t.days), 0) as days
        from to_come t
        where t.weekday not in (select weekday from final)
    ), weight as (
        -- How often each day counts towards the days to come; not at all where it has no final amount.
        select g.day::date as day, coalesce(coalesce(t.days, 0) / f.of_weekday + u.days / f.of_all, 0) as days
        from generate_series(
            least(d.month, p.last_day - 27)::timestamp, d.next_month - interval '1 day', interval '1 day'
        ) as g (day)
        left join final f on f.day = g.day::date
        left join to_come t using (weekday)
        cross join unknown u
    )
    select c.company_id,
        coalesce(sum(c.credits_usd + c.byok_usd) filter (where c.day >= d.month), 0) as spent_usd,
        sum((c.credits_usd + c.byok_usd) * w.days) as to_come_usd
    from weight w
    join core.company_day c on c.account_id = d.account_id and c.day = w.day
    where c.day >= least(d.month, p.last_day - 27) and c.day < case when d.is_newest then d.next_month else d.day end
    group by c.company_id
) s;
