-- One row per UTC day whose facts changed: what each witness says of it, and whether they agree.
create temporary table staged_account_day on commit drop as
with days as (
    select day from touched_day
    union
    select day from built_day
    union
    select distinct (hour at time zone 'UTC')::date from touched_hour
        where (hour at time zone 'UTC')::date >= (:first_day)::date
), facts as (
    select u.day,
        sum(u.credits_usd) as account_credits_usd,
        coalesce(sum(u.credits_usd) filter (where u.key_id <> 0), 0) as keys_credits_usd,
        sum(u.byok_usd) as account_byok_usd,
        coalesce(sum(u.byok_usd) filter (where u.key_id <> 0), 0) as keys_byok_usd
    from core.usage_daily u
    join days using (day)
    where u.account_id = :account_id
    group by u.day
), hours as (
    select d.day, sum(u.credits_usd) as credits_usd, sum(u.byok_usd) as byok_usd,
        bool_or(u.source = 'counter') as is_counted
    from days d
    join core.usage_hourly u
        on u.hour >= d.day::timestamp at time zone 'UTC' and u.hour < (d.day + 1)::timestamp at time zone 'UTC'
    where u.account_id = :account_id
    group by d.day
), told as (
    select :account_id ::smallint as account_id, d.day,
        coalesce(b.is_settled or b.was_settled, o.is_settled, false) as is_settled,
        coalesce(f.account_credits_usd, 0) as account_credits_usd,
        coalesce(f.keys_credits_usd, 0) as keys_credits_usd,
        coalesce(f.account_byok_usd, 0) as account_byok_usd,
        coalesce(f.keys_byok_usd, 0) as keys_byok_usd,
        case when h.day is not null or a.counted_from is null then coalesce(h.credits_usd, 0) end as hours_credits_usd,
        case when h.day is not null or a.counted_from is null then coalesce(h.byok_usd, 0) end as hours_byok_usd,
        coalesce(h.is_counted, false) as is_counted
    from days d
    join ref.account a on a.account_id = :account_id
    left join facts f using (day)
    left join hours h using (day)
    left join built_day b using (day)
    left join core.account_day o on o.account_id = :account_id and o.day = d.day
), named as (
    select u.day, string_agg(u.cause, '; ' order by u.usd desc, u.cause) as cause
    from (
        select day, cause, sum(credits_usd + byok_usd) as usd
        from core.unkeyed_day
        where account_id = :account_id and day in (select day from days)
        group by day, cause
    ) u
    where abs(u.usd) > 1e-6
    group by u.day
), compared as (
    select *, account_credits_usd - keys_credits_usd as residual_credits_usd,
        account_byok_usd - keys_byok_usd as residual_byok_usd
    from told
), causes as (
    select c.*,
        case
            -- Hours that follow from counters are no witness of a single day.
            when not is_counted
                and (abs(account_credits_usd - hours_credits_usd) > 1e-6 or abs(account_byok_usd - hours_byok_usd) > 1e-6)
                then 'hours and activity disagree'
            when least(residual_credits_usd, residual_byok_usd) < -1e-6 then 'the keys report more than the account'
            when greatest(residual_credits_usd, residual_byok_usd) > 1e-6
                then coalesce(n.cause, 'spend without a key, or of a key never listed')
        end as cause
    from compared c
    left join named n using (day)
)
select account_id, day, is_settled, account_credits_usd, keys_credits_usd, account_byok_usd, keys_byok_usd,
    hours_credits_usd,
    case
        when cause is null then 'closed'
        when cause in ('hours and activity disagree', 'the keys report more than the account') then 'open'
        else 'explained'
    end as status,
    cause
from causes
