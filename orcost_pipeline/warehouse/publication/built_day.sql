-- One row per UTC day to build: days to settle, and unsettled days whose hours changed or that are new. Hours may be
-- reported beyond as_of, which the oldest of the answers sets: their days are built too.
create temporary table built_day on commit drop as
with settled as (
    select (q.start_at at time zone 'UTC')::date as day,
        (case when q.grain = 'day' then 'activity' else 'analytics' end)::core.usage_source as source
    from raw.usage_question q
    where q.run_id = :extraction_id and q.account = :account and q.grain in ('day', 'past_day') and q.key_hash is null
        and q.outcome = 'answered'
), touched as (
    select distinct (hour at time zone 'UTC')::date as day from touched_hour
), known as (
    select day::date
    from generate_series(
        (:first_day)::date::timestamp, (:as_of at time zone 'UTC')::date::timestamp, interval '1 day'
    ) as day
    union
    select day from settled
    union
    select day from touched where day >= (:first_day)::date
)
select
    k.day, s.day is not null as is_settled, s.source, d.is_settled is true as was_settled,
    k.day::timestamp at time zone 'UTC' as start_at, (k.day + 1)::timestamp at time zone 'UTC' as end_at
from known k
left join settled s using (day)
left join touched t using (day)
left join core.account_day d on d.account_id = :account_id and d.day = k.day
where s.day is not null or d.day is null or (not d.is_settled and t.day is not null)
