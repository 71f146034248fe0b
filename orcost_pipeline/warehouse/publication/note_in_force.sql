-- Recorded before they are read: a version that comes into force meanwhile may be read but is not recorded.
update ref.account
set mapping_version = v.mapping_version, plan_version = v.plan_version
from (
    select (select max(version) from ref.mapping_version) as mapping_version,
        (select max(version) from ref.price_plan_version) as plan_version
) v
where account_id = :account_id
    and (ref.account.mapping_version, ref.account.plan_version) is distinct from (v.mapping_version, v.plan_version)
