-- The first day with stored hours, from that of a first reported hour on.
select min(d.day)
from core.account_day d
join ref.account a using (account_id)
where a.account = :account and d.day >= (cast(:reported_from as timestamptz) at time zone 'UTC')::date
    and d.hours_credits_usd is not null
