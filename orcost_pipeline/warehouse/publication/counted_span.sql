-- One row per span of several UTC hours for which the keys' counters give one sum: between two syncs, cut at the starts
-- of day, week and month. They are accurate to the hour, as a sync is rarely on it.
create temporary table staged_counted_span on commit drop as
with boundary as (
    select distinct (unnest(array[day, date_trunc('week', day), date_trunc('month', day)]) at time zone 'UTC') as at
    from (select counters_day::timestamp as day from raw.api_key where run_id = :extraction_id and account = :account) listed
), known as (
    select start_at, end_at
    from core.counted_span
    where account_id = :account_id
    union all
    select date_trunc('hour', greatest(as_of, counted_from) + before_next, 'UTC'),
        date_trunc('hour', :as_of ::timestamptz + before_next, 'UTC')
    from ref.account
    cross join (values (interval '1 hour' - interval '1 microsecond')) as ceiling (before_next)
    where account_id = :account_id
), edge as (
    select start_at as at, end_at
    from known
    union
    select t.at, k.end_at
    from known k
    join boundary t on t.at > k.start_at and t.at < k.end_at
), span as (
    select at as start_at, lead(at, 1, end_at) over (partition by end_at order by at) as end_at
    from edge
)
select :account_id ::integer as account_id, start_at, end_at
from span
where end_at - start_at > interval '1 hour'
