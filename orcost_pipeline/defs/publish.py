"""From ref/api_key to marts/*: one account's publication, one transaction, one subsettable multi-asset.

A subset publishes the same: the steps build on each other, and what is not new writes nothing. Materializations are
reported after the commit; a contract check that fails raises before it, so that no reader ever sees what it found.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.defs.checks import BUSINESS_CHECKS, CONTRACT_CHECK_ASSETS, business_check, check_specs
from orcost_pipeline.defs.companies import MAPPING_KEY
from orcost_pipeline.defs.describe import describe
from orcost_pipeline.defs.resources import sync_step
from orcost_pipeline.defs.steps import publish_account
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.migrations.relations import RELATIONS

# Two missed hours are worth a look. Dagster sees the newest of several accounts; `orcost status` sees each.
FRESHNESS = dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=2), fail_window=timedelta(hours=6))

# asset → (what it is made of, the tables whose written rows are its own)
PUBLISHED: dict[str, tuple[list[str], list[str]]] = {
    "ref.api_key": (
        ["raw.account", "raw.workspace", "raw.organization_member", "raw.api_key"],
        ["core.api_key", "core.api_key_version"],
    ),
    "ref.api_key_history": (["ref.api_key"], ["core.api_key_version"]),
    "core.usage_hourly": (["ref.api_key", "raw.usage_hourly"], ["core.usage_hourly"]),
    "core.usage_daily": (["core.usage_hourly", "raw.activity_daily"], ["core.usage_daily"]),
    "ops.restatement": (["core.usage_daily"], ["ops.restatement"]),
    "ref.assignment": (["ref.company_mapping", "ref.api_key_history"], ["core.assignment"]),
    "core.spend_hourly": (["core.usage_hourly", "ref.assignment"], ["core.usage_hourly", "core.assignment"]),
    "core.spend_daily": (["core.usage_daily", "ref.assignment"], ["core.usage_daily", "core.assignment"]),
    "marts.company_spend_daily": (["core.spend_daily"], ["core.company_day"]),
    "marts.company_spend_monthly": (["marts.company_spend_daily"], ["core.company_day"]),
    "marts.creator_spend_daily": (
        ["core.spend_daily", "ref.api_key_history"],
        ["core.usage_daily", "core.assignment", "core.api_key_version"],
    ),
    "marts.workspace_spend_daily": (
        ["core.spend_daily", "ref.api_key_history"],
        ["core.usage_daily", "core.assignment", "core.api_key_version"],
    ),
    "marts.key_spend_rolling": (["core.spend_hourly"], ["core.key_rolling"]),
    "marts.company_spend_rolling": (["marts.key_spend_rolling"], ["core.company_rolling"]),
    "marts.unattributed_spend": (["core.spend_daily"], ["core.usage_daily", "core.assignment"]),
    "marts.unkeyed_spend_daily": (["core.usage_hourly"], ["core.unkeyed_hour"]),
    "marts.reconciliation_daily": (
        ["core.usage_daily", "core.usage_hourly", "marts.unkeyed_spend_daily"],
        ["core.account_day"],
    ),
}


def asset_key(relation: str) -> dg.AssetKey:
    return dg.AssetKey(relation.split("."))


def published_spec(relation: str) -> dg.AssetSpec:
    made_of, _ = PUBLISHED[relation]
    return dg.AssetSpec(
        asset_key(relation),
        deps=[MAPPING_KEY if dep == "ref.company_mapping" else asset_key(dep) for dep in made_of],
        group_name=relation.split(".")[0],
        kinds={"postgres", "sql"},
        description=RELATIONS[relation],
        freshness_policy=FRESHNESS if relation.startswith("marts.") else None,
        metadata={"dagster/table_name": relation},
    )


@dg.multi_asset(
    name="publish",
    specs=[published_spec(relation) for relation in PUBLISHED],
    check_specs=check_specs(),
    can_subset=True,
)
def publish(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[sa.Engine], settings: dg.ResourceParam[Settings]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Publishes what this run read, or, where it read nothing, the mapping in force over what is published."""
    with sync_step(context, warehouse, settings) as step:
        done = publish_account(step)
        with warehouse.connect() as connection:
            results = [
                *(
                    published(connection, relation, step.account.name, done.rows)
                    for relation in PUBLISHED
                    if asset_key(relation) in context.selected_asset_keys
                ),
                *(
                    check_result(connection, check, step.account.name, settings)
                    for check in context.selected_asset_check_keys
                    if check.name in done.checks or check.name in BUSINESS_CHECKS
                ),
            ]
    yield from results


def published(connection: sa.Connection, relation: str, account: str, rows: Mapping[str, int]) -> dg.MaterializeResult:
    _, tables = PUBLISHED[relation]
    written = sum(rows.get(table, 0) for table in tables)
    metadata = describe(connection, relation, account, written)
    return dg.MaterializeResult(asset_key=asset_key(relation), metadata=metadata)


def check_result(
    connection: sa.Connection, check: dg.AssetCheckKey, account: str, settings: Settings
) -> dg.AssetCheckResult:
    """Contract checks that were asked passed, or nothing would have been published; business checks are asked now."""
    if check.name in BUSINESS_CHECKS:
        return business_check(connection, check, account, settings)
    description = f"{CONTRACT_CHECK_ASSETS[check.name][1]} Asked before the commit."
    return dg.AssetCheckResult(asset_key=check.asset_key, check_name=check.name, passed=True, description=description)
