-- Whole UTC days come from the days, the hours before and after them from the hours, as in reports.
select date_trunc(cast(:grain as text), s.day::timestamp) at time zone 'UTC' as start_at,
    sum(s.credits_usd) as credits_usd, sum(s.byok_usd) as byok_usd
from (
    select d.day, d.account_id, d.company_id, d.credits_usd, d.byok_usd
    from core.company_day d
    where d.day >= :first and d.day < :last
    union all
    select (e.hour at time zone 'UTC')::date, e.account_id, e.company_id, e.credits_usd, e.byok_usd
    from core.company_hour e
    where e.hour = any(cast(:hours as timestamptz[]))
) s
join ref.account a using (account_id)
join ref.company c using (company_id)
where (cast(:account as text) is null or a.account = :account)
    and (cast(:company as text) is null or c.company = :company)
group by 1
order by 1
