-- One row per UTC hour whose stored residuals by name this run replaces: it asked for their names, or keys explain all of
-- the hour now.
create temporary table renamed_hour on commit drop as
select distinct t.hour
from core.unkeyed_hour t
where t.account_id = :account_id
    and (
        exists (
            select from raw.usage_question q
            where q.run_id = :extraction_id and q.account = :account and q.outcome = 'named'
                and t.hour >= q.start_at and t.hour < q.end_at
        )
        or (
            not exists (
                select from core.usage_hourly u
                where u.account_id = :account_id and u.key_id = 0 and u.hour = t.hour
            )
            -- What is known by day alone stands at the day's first hour.
            and not exists (
                select from core.usage_daily u
                where u.account_id = :account_id and u.key_id = 0 and u.source = 'analytics'
                    and u.day = (t.hour at time zone 'UTC')::date
            )
        )
    )
