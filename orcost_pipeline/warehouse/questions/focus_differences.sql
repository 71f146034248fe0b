-- Days of a span, by account, on which FOCUS bills another sum than marts.spend_daily has, to the last digit.
with focus as (
    select "BillingAccountId" as account, ("ChargePeriodStart" at time zone 'UTC')::date as day,
        sum("BilledCost") as billed_usd
    from marts.focus_cost_and_usage
    where "ChargePeriodStart" >= :start and "ChargePeriodStart" < :end
    group by 1, 2
), spend as (
    select account, day, sum(credits_usd) as credits_usd
    from marts.spend_daily
    where day >= (cast(:start as timestamptz) at time zone 'UTC')::date
        and day < (cast(:end as timestamptz) at time zone 'UTC')::date
    group by account, day
)
select account, day, billed_usd, credits_usd
from focus
full join spend using (account, day)
where billed_usd is distinct from credits_usd
order by account, day
