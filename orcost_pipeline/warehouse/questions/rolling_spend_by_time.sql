select date_trunc(cast(:grain as text), e.hour, 'UTC') as start_at, sum(e.credits_usd) as credits_usd,
    sum(e.byok_usd) as byok_usd
from ref.account a
join core.company_hour e on e.account_id = a.account_id and e.hour >= core.rolling_start(:period, a.as_of)
join ref.company c using (company_id)
where (cast(:account as text) is null or a.account = :account)
    and (cast(:company as text) is null or c.company = :company)
group by 1
order by 1
