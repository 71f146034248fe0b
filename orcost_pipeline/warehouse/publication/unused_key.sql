-- One row per foreign key without stored usage; the others stay, deleted, with what they used before.
create temporary table unused_key on commit drop as
select f.key_id
from foreign_key f
where not exists (select from core.usage_daily u where u.account_id = :account_id and u.key_id = f.key_id)
    and not exists (select from core.usage_hourly u where u.account_id = :account_id and u.key_id = f.key_id)
