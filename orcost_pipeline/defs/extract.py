"""The assets raw/*: OpenRouter's answers, typed, per run. Each asset commits by itself; no cost report reads them."""

from collections.abc import Callable, Iterator

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.defs.describe import column_schema
from orcost_pipeline.defs.placement import Placement, relation_of
from orcost_pipeline.defs.resources import Surroundings, SyncWindow, sync_step
from orcost_pipeline.openrouter.reading import UsageReading
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync import steps
from orcost_pipeline.sync.sync_step import StepResult, SyncStep
from orcost_pipeline.text import plural, quoted

Engine = dg.ResourceParam[sa.Engine]
SettingsParam = dg.ResourceParam[Settings]
Around = dg.ResourceParam[Surroundings]
KINDS = {"openrouter", "postgres"}


def raw_result(step: SyncStep, result: StepResult, key: dg.AssetKey) -> dg.MaterializeResult:
    """The materialization of a raw asset, with the sync's instant, rows, requests and columns as metadata."""
    with step.engine.connect() as connection:
        columns = column_schema(connection, relation_of(key))
    metadata = {
        "as_of": dg.TimestampMetadataValue(step.as_of.timestamp()),
        "dagster/row_count": result.rows,
        "requests_made": result.requests_made,
        **result.more,
        "dagster/column_schema": columns,
    }
    return dg.MaterializeResult(asset_key=key, metadata=metadata)


# relation → (upstream relations, the step that reads it, the asset's description)
_LISTINGS: dict[str, tuple[list[str], Callable[[SyncStep], StepResult], str]] = {
    "raw.account": (
        [],
        steps.read_account,
        "One row per run and account: the key that asks (`GET /key`) and the account's credits (`GET /credits`).",
    ),
    "raw.workspace": (
        ["raw.account"],
        steps.read_workspaces,
        "One row per run, account and workspace (`GET /workspaces`).",
    ),
    "raw.organization_member": (
        ["raw.account"],
        steps.read_members,
        "One row per run, account and member of the organization (`GET /organization/members`); none for a person's.",
    ),
    "raw.model": (
        ["raw.account"],
        steps.read_models,
        "One row per run and model: list prices (`GET /models`), read once a day.",
    ),
    "raw.api_key": (
        ["raw.workspace"],
        steps.read_api_keys,
        "One row per run, account and API key of all workspaces, disabled and expired too (`GET /keys`).\n\n"
        "A key that is no longer listed is requested by its hash: a 404 proves that it was deleted.",
    ),
}


def assets(place: Placement) -> list[dg.AssetsDefinition]:
    """The assets of all raw relations, partitioned by account."""
    return [*(_listing(place, relation) for relation in _LISTINGS), _usage(place)]


def _listing(place: Placement, relation: str) -> dg.AssetsDefinition:
    deps, read, description = _LISTINGS[relation]

    @dg.multi_asset(name="__".join(place.key(relation).path), specs=[place.spec(relation, deps, KINDS, description)])
    def read_listing(
        context: dg.AssetExecutionContext,
        orcost_warehouse: Engine,
        orcost: SettingsParam,
        orcost_surroundings: Around,
    ) -> dg.MaterializeResult:
        with sync_step(context, orcost_warehouse, orcost, orcost_surroundings) as step:
            return raw_result(step, read(step), place.key(relation))

    return read_listing


def _usage(place: Placement) -> dg.AssetsDefinition:
    hours_key, days_key = place.key("raw.usage_hourly"), place.key("raw.activity_daily")

    @dg.multi_asset(
        name="raw_usage",
        specs=[
            place.spec(
                "raw.usage_hourly",
                ["raw.api_key"],
                KINDS,
                "One row per run, API key (null: the whole account), UTC hour and model, of the hours that "
                "differ from what is stored (`POST /analytics/query`).",
            ),
            place.spec(
                "raw.activity_daily",
                ["raw.api_key"],
                KINDS,
                "One row per run, API key (null: the whole account), UTC day, model and endpoint, of the days "
                "to settle (`GET /activity`).",
            ),
        ],
        check_specs=[
            place.check(
                "totals_are_credits_plus_byok",
                "raw.usage_hourly",
                "`total_usage` of analytics is credits plus BYOK; otherwise something is counted twice.",
            )
        ],
    )
    def raw_usage(
        context: dg.AssetExecutionContext,
        orcost_warehouse: Engine,
        orcost: SettingsParam,
        orcost_surroundings: Around,
        orcost_window: SyncWindow,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Usage by hour and by day: the account first, then the keys of what differs."""
        with sync_step(context, orcost_warehouse, orcost, orcost_surroundings) as step:
            reading, requests_made = steps.read_usage_of_account(step, orcost_window.since_day)
            hours = raw_result(step, _hours(reading, requests_made), hours_key)
            days = raw_result(step, _days(reading), days_key)
        yield hours
        yield days
        yield _totals_check(hours_key, step.account.name, reading)

    return raw_usage


def _totals_check(key: dg.AssetKey, account: str, reading: UsageReading) -> dg.AssetCheckResult:
    doubtful = reading.hours.doubtful_totals + reading.past.doubtful_totals
    return dg.AssetCheckResult(
        asset_key=key,
        check_name="totals_are_credits_plus_byok",
        passed=doubtful == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Account {quoted(account)}: {plural(doubtful, 'row')} with another total.",
        metadata={"doubtful_rows": doubtful},
    )


def _hours(reading: UsageReading, requests_made: int) -> StepResult:
    hours = reading.hours
    counts = {
        "keys_asked": len(hours.keys_asked),
        "hours_asked": sum(len(window.hours()) for window in hours.windows),
        "hours_not_explained_yet": len(hours.unexplained),
    }
    return StepResult(hours.rows, requests_made, counts)


def _days(reading: UsageReading) -> StepResult:
    activity = reading.activity
    rows = len(activity.account) + sum(len(key.rows) for key in activity.keys) if activity else 0
    days = [*reading.past_days, *(activity.days if activity else ())]
    return StepResult(rows, 0, {"days_to_settle": ", ".join(day.isoformat() for day in days) or "none"})
