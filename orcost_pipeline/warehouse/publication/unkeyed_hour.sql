-- One row per UTC hour and name (blank: no key) with usage that no key explains, of the hours asked about by name.
create temporary table staged_unkeyed_hour on commit drop as
select :account_id ::integer as account_id, r.hour, r.name, r.credits_usd, r.byok_usd
from raw.unkeyed_hour r
where r.run_id = :extraction_id and r.account = :account
