-- The rows of marts.unkeyed_spend_daily, with small ids.
create or replace view core.unkeyed_day as
with bearers as (
    select k.account_id, v.name, bool_or(k.deleted_at is not null) as has_deleted,
        min(coalesce(k.created_at, '-infinity')) filter (where k.deleted_at is null) as first_living_at
    from core.api_key k
    join core.api_key_version v using (key_id)
    group by k.account_id, v.name
), caused as (
    select u.*,
        case
            when u.name = '' then 'spend without a key'
            -- The hours of a key that existed then, and still does, arrive within two days; later, spend under its name
            -- belongs to another key.
            when u.hour + interval '1 hour' > b.first_living_at and u.hour > a.as_of - interval '48 hours'
                then 'late hours'
            when b.has_deleted then 'spend of a deleted key'
            else 'spend of a key never listed'
        end as cause
    from core.unkeyed_hour u
    join ref.account a using (account_id)
    left join bearers b on b.account_id = u.account_id and b.name = u.name
)
select account_id, (hour at time zone 'UTC')::date as day, nullif(name, '') as key_name, cause,
    sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
from caused
group by 1, 2, 3, 4;
