-- One row per API key (0: no key) whose rolling windows may change with owners or prices; if a price changed, all
-- keys.
create temporary table rolled_again on commit drop as
select key_id
from touched_assignment
union
select key_id
from core.api_key
where account_id = :account_id and exists (select from touched_price)
union
select 0
where exists (select from touched_price)
