with first as (
    select least(cast(:first as date), min(day)) as day
    from core.account_day
    where account_id = :account_id and day <> all(cast(:doubted as date[]))
)
select d.day::date as day
from first
cross join generate_series(first.day::timestamp, cast(:end as date)::timestamp - interval '1 day', interval '1 day')
    as d (day)
left join core.account_day a on a.account_id = :account_id and a.day = d.day
where (a.is_settled and a.day <> all(cast(:doubted as date[]))) is not true or :is_rebuild_requested
