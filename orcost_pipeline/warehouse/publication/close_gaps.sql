-- Each version of a revived key lasts until the next that is left.
update core.api_key_version v
set valid_to = n.valid_to
from (
    select key_id, valid_from, lead(valid_from) over (partition by key_id order by valid_from) as valid_to
    from core.api_key_version
    where key_id in (select key_id from revived_key)
) n
where v.key_id = n.key_id and v.valid_from = n.valid_from and v.valid_to is distinct from n.valid_to
