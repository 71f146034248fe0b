-- Companies whose last settled day is far above the same weekday of the four weeks before, over all accounts. A day is
-- known if any account knows it, and settled if all accounts that know it have settled it.
with day as (
    select day, bool_and(is_settled) as is_settled from core.account_day group by day
), last as (
    select max(day) as day from day where is_settled
), earlier as (
    select d.day from last l join day d on d.day in (l.day - 7, l.day - 14, l.day - 21, l.day - 28)
), spend as (
    select s.company_id, s.day, sum(s.credits_usd + s.byok_usd) as usd
    from core.company_day s
    where s.day in (select day from earlier union all select day from last)
    group by s.company_id, s.day
), usual as (
    select c.company_id, array_agg(coalesce(s.usd, 0) order by coalesce(s.usd, 0)) as usd
    from (select distinct company_id from spend) c
    cross join earlier e
    left join spend s on s.company_id = c.company_id and s.day = e.day
    group by c.company_id
    having count(*) >= 2
), compared as (
    -- The median: the mean of the two middle values.
    select c.company, s.day, s.usd, cardinality(u.usd) as weeks,
        (u.usd[(cardinality(u.usd) + 1) / 2] + u.usd[(cardinality(u.usd) + 2) / 2]) / 2 as usual_usd
    from last l
    join spend s on s.day = l.day
    join usual u using (company_id)
    join ref.company c using (company_id)
    where s.company_id <> 0
)
select company, day, usd as spent_usd, trim_scale(usual_usd) as usual_usd, weeks
from compared
where usd > :factor * usual_usd and usd - usual_usd >= :least_usd
order by company
