-- Days of foreign keys that this run asked about.
with forgotten as (
    delete from core.usage_daily u
    using forgotten_from t
    where u.account_id = :account_id and u.day >= t.day and u.key_id in (select key_id from foreign_key)
    returning u.day
)
insert into touched_day
select day from forgotten
