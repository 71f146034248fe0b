"""raw/*: what OpenRouter says, typed and stamped. Each asset commits alone; readers of costs see nothing of it."""

from collections.abc import Iterator

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.defs import steps
from orcost_pipeline.defs.describe import column_schema
from orcost_pipeline.defs.resources import SyncWindow, sync_step
from orcost_pipeline.defs.steps import StepResult, SyncStep
from orcost_pipeline.openrouter.reading import UsageReading
from orcost_pipeline.settings import Settings

Engine = dg.ResourceParam[sa.Engine]
SettingsParam = dg.ResourceParam[Settings]
KINDS = {"openrouter", "postgres"}


def raw_result(step: SyncStep, result: StepResult, relation: str) -> dg.MaterializeResult:
    """What a data engineer asks of a raw asset: complete to when, how many rows, how many requests, which columns."""
    with step.engine.connect() as connection:
        columns = column_schema(connection, f"raw.{relation}")
    metadata = {
        "as_of": dg.TimestampMetadataValue(step.as_of.timestamp()),
        "rows": result.rows,
        "requests_made": result.requests_made,
        **result.more,
        "dagster/column_schema": columns,
    }
    return dg.MaterializeResult(asset_key=["raw", relation], metadata=metadata)


@dg.asset(key=["raw", "account"], group_name="raw", kinds=KINDS)
def raw_account(context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam) -> dg.MaterializeResult:
    """One row per run and account: the key that asks (`GET /key`) and the account's credits (`GET /credits`)."""
    with sync_step(context, warehouse, settings) as step:
        return raw_result(step, steps.read_account(step), "account")


@dg.asset(key=["raw", "workspace"], deps=[["raw", "account"]], group_name="raw", kinds=KINDS)
def raw_workspace(
    context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam
) -> dg.MaterializeResult:
    """One row per run, account and workspace (`GET /workspaces`)."""
    with sync_step(context, warehouse, settings) as step:
        return raw_result(step, steps.read_workspaces(step), "workspace")


@dg.asset(key=["raw", "organization_member"], deps=[["raw", "account"]], group_name="raw", kinds=KINDS)
def raw_organization_member(
    context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam
) -> dg.MaterializeResult:
    """One row per run, account and member of the organization (`GET /organization/members`); none for a person's."""
    with sync_step(context, warehouse, settings) as step:
        return raw_result(step, steps.read_members(step), "organization_member")


@dg.asset(key=["raw", "model"], deps=[["raw", "account"]], group_name="raw", kinds=KINDS)
def raw_model(context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam) -> dg.MaterializeResult:
    """One row per run and model: list prices (`GET /models`), read once a day."""
    with sync_step(context, warehouse, settings) as step:
        return raw_result(step, steps.read_models(step), "model")


@dg.asset(key=["raw", "api_key"], deps=[["raw", "workspace"]], group_name="raw", kinds=KINDS)
def raw_api_key(context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam) -> dg.MaterializeResult:
    """One row per run, account and API key of all workspaces, disabled and expired too (`GET /keys`).

    A key that is no longer listed is asked for by its hash: a 404 proves that it was deleted.
    """
    with sync_step(context, warehouse, settings) as step:
        return raw_result(step, steps.read_api_keys(step), "api_key")


@dg.multi_asset(
    name="raw_usage",
    specs=[
        dg.AssetSpec(
            ["raw", "usage_hourly"],
            deps=[["raw", "api_key"]],
            kinds=KINDS,
            description="One row per run, API key (null: the whole account), UTC hour and model, of the hours that "
            "differ from what is stored (`POST /analytics/query`).",
        ),
        dg.AssetSpec(
            ["raw", "activity_daily"],
            deps=[["raw", "api_key"]],
            kinds=KINDS,
            description="One row per run, API key (null: the whole account), UTC day, model and endpoint, of the days "
            "to settle (`GET /activity`).",
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "totals_are_credits_plus_byok",
            asset=["raw", "usage_hourly"],
            description="`total_usage` of analytics is credits plus BYOK; otherwise something is counted twice.",
        )
    ],
    group_name="raw",
)
def raw_usage(
    context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam, window: SyncWindow
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Usage by hour and by day: the account first, then the keys of what differs."""
    with sync_step(context, warehouse, settings) as step:
        reading, requests_made = steps.read_usage_of_account(step, window.since_day)
        hours = raw_result(step, _hours(reading, requests_made), "usage_hourly")
        days = raw_result(step, _days(reading), "activity_daily")
    doubtful = reading.hours.doubtful_totals + reading.past.doubtful_totals
    yield hours
    yield days
    yield dg.AssetCheckResult(
        asset_key=["raw", "usage_hourly"],
        check_name="totals_are_credits_plus_byok",
        passed=doubtful == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"doubtful_rows": doubtful},
    )


def _hours(reading: UsageReading, requests_made: int) -> StepResult:
    hours = reading.hours
    rows = len(hours.account) + sum(len(answer.cells) for answer in hours.keys)
    told = {
        "keys_asked": len({answer.key_hash for answer in hours.keys}),
        "hours_asked": sum(len(window.hours()) for window in hours.windows),
        "hours_not_explained_yet": len(hours.unexplained),
    }
    return StepResult(rows, requests_made, told)


def _days(reading: UsageReading) -> StepResult:
    rows = len(reading.account_days) + sum(len(answer.rows) for answer in reading.key_days)
    days = [*reading.past_days, *reading.days]
    return StepResult(rows, 0, {"days_to_settle": ", ".join(day.isoformat() for day in days) or "none"})
