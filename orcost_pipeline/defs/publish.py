"""From ref/api_key to marts/*: one account's publication, one transaction, one subsettable multi-asset.

A subset publishes the same: the steps build on each other, and unchanged rows are not written. Materializations are
reported after the commit; a failing contract check raises before it, so that no reader ever sees wrong rows.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.alerts.heartbeat import beat
from orcost_pipeline.defs.checks import business_check, check_specs, contract_check, is_contract
from orcost_pipeline.defs.describe import describe
from orcost_pipeline.defs.placement import Placement, relation_of
from orcost_pipeline.defs.resources import Surroundings, sync_step
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.steps import publish_account
from orcost_pipeline.windows import STALE_AFTER

# Dagster sees the newest of several accounts; the check `every_account_is_fresh` and `orcost status` see each.
FRESHNESS = dg.FreshnessPolicy.time_window(warn_window=STALE_AFTER, fail_window=timedelta(hours=6))

# asset → (upstream assets, the tables whose written rows count as its own)
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
    "marts.spend_hourly": (
        ["core.spend_hourly", "ref.api_key_history"],
        ["core.usage_hourly", "core.assignment", "core.api_key_version"],
    ),
    "marts.spend_daily": (
        ["core.spend_daily", "ref.api_key_history"],
        ["core.usage_daily", "core.assignment", "core.api_key_version"],
    ),
    "marts.focus_cost_and_usage": (
        ["marts.spend_daily"],
        ["core.usage_daily", "core.assignment", "core.api_key_version"],
    ),
    "marts.company_spend_daily": (["core.spend_daily"], ["core.company_day"]),
    "marts.company_spend_monthly": (["marts.company_spend_daily"], ["core.company_day"]),
    "marts.company_spend_hourly": (["core.spend_hourly"], ["core.company_hour"]),
    "marts.model_spend_monthly": (["core.spend_daily"], ["core.model_month"]),
    "marts.creator_spend_daily": (["core.spend_daily", "ref.api_key_history"], ["core.holder_day"]),
    "marts.workspace_spend_daily": (["core.spend_daily", "ref.api_key_history"], ["core.holder_day"]),
    "marts.company_charge_daily": (["core.spend_daily", "ref.company_mapping"], ["core.company_day", "core.price"]),
    "marts.company_charge_monthly": (["marts.company_charge_daily"], ["core.company_day", "core.price"]),
    "marts.statement": (["marts.company_charge_daily"], ["core.company_day", "core.price"]),
    "marts.key_spend_rolling": (["core.spend_hourly"], ["core.key_rolling"]),
    "marts.company_spend_rolling": (["marts.key_spend_rolling"], ["core.company_rolling"]),
    "marts.unattributed_spend": (["core.spend_daily"], ["core.usage_daily", "core.assignment"]),
    "marts.unkeyed_spend_daily": (["core.usage_hourly"], ["core.unkeyed_hour"]),
    "marts.reconciliation_daily": (
        ["core.usage_daily", "core.usage_hourly", "marts.unkeyed_spend_daily"],
        ["core.account_day"],
    ),
}


def assets(place: Placement) -> list[dg.AssetsDefinition]:
    """The multi-asset of all published relations, partitioned by account."""

    @dg.multi_asset(
        name="publish",
        specs=[
            place.spec(
                relation,
                made_of,
                {"postgres", "sql"},
                freshness_policy=FRESHNESS if relation.startswith("marts.") else None,
            )
            for relation, (made_of, _) in PUBLISHED.items()
        ],
        check_specs=check_specs(place),
        can_subset=True,
    )
    def publish(
        context: dg.AssetExecutionContext,
        orcost_warehouse: dg.ResourceParam[sa.Engine],
        orcost: dg.ResourceParam[Settings],
        orcost_surroundings: dg.ResourceParam[Surroundings],
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Publishes what this run read, or, where it read nothing, the mapping in force over what is published."""
        with sync_step(context, orcost_warehouse, orcost, orcost_surroundings) as step:
            done = publish_account(step)
            account, now = step.account.name, step.clock()
            if done.is_sync and (problem := beat(orcost.heartbeat_url, account)):
                context.log.warning("%s", problem)
            with orcost_warehouse.connect() as connection:
                results = [
                    *(published(connection, place.key(it), account, done.rows) for it in _selected(context)),
                    *(
                        contract_check(check, account)
                        if is_contract(check)
                        else business_check(connection, check, account, orcost, now)
                        for check in context.selected_asset_check_keys
                        if check.name in done.checks or not is_contract(check)
                    ),
                ]
        yield from results

    return [publish]


def _selected(context: dg.AssetExecutionContext) -> list[str]:
    selected = {relation_of(key) for key in context.selected_asset_keys}
    return [relation for relation in PUBLISHED if relation in selected]


def published(
    connection: sa.Connection, key: dg.AssetKey, account: str, rows: Mapping[str, int]
) -> dg.MaterializeResult:
    """The materialization of a published relation; `rows` are the rows written, by table."""
    relation = relation_of(key)
    _, tables = PUBLISHED[relation]
    written = sum(rows.get(table, 0) for table in tables)
    return dg.MaterializeResult(asset_key=key, metadata=describe(connection, relation, account, written))
