-- Accounts whose figures do not follow from the newest mapping or price plans: a sync loaded these and failed
-- afterwards.
select account, lacks_mapping, lacks_plans
from ref.account
cross join lateral (
    select mapping_version is distinct from (select max(version) from ref.mapping_version) as lacks_mapping,
        plan_version is distinct from (select max(version) from ref.price_plan_version) as lacks_plans
) o
where as_of is not null and (lacks_mapping or lacks_plans)
order by account
