-- The rows of marts.focus_cost_and_usage for the UTC days in a span, in the order of their grain, by code point.
select *
from marts.focus_cost_and_usage
where "ChargePeriodStart" >= :start and "ChargePeriodStart" < :end
order by "BillingAccountId" collate "C", "ChargePeriodStart", "SubAccountId" collate "C", "ResourceId",
    "SkuId" collate "C", "x_Provider" collate "C"
