-- Accounts with figures that the newest mapping and price plans did not make: a sync loaded these and failed afterwards.
select account
from ref.account
where as_of is not null and (mapping_version, plan_version) is distinct from (
        (select max(version) from ref.mapping_version), (select max(version) from ref.price_plan_version)
    )
order by account
