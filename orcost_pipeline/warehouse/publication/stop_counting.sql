-- Hours are those of analytics as soon as they answer; spans of counters before the first hour that they report stay.
with points as (
    delete from core.counter_point where account_id = :account_id
), spans as (
    delete from core.counted_span where account_id = :account_id and end_at > :reported_from
)
update ref.account set counted_from = null where account_id = :account_id and counted_from is not null
