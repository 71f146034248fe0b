-- Hours of foreign keys, and the residuals beside them, on the days that this run asked about.
with forgotten as (
    delete from core.usage_hourly u
    using forgotten_from t
    where u.account_id = :account_id and (u.hour at time zone 'UTC')::date >= t.day
        and (
            u.key_id in (select key_id from foreign_key)
            or (u.key_id = 0 and (u.hour, u.model_id) in (select hour, model_id from unkeyed_cell))
        )
    returning u.hour
)
insert into touched_hour
select hour from forgotten
