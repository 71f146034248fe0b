"""raw/*: what OpenRouter says, typed and stamped. Each asset commits alone; readers of costs see nothing of it."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.defs import wire_rows
from orcost_pipeline.defs.resources import SyncStep, SyncWindow, sync_step
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.openrouter.client import OpenRouter
from orcost_pipeline.openrouter.reading import UsageReading
from orcost_pipeline.openrouter.records import ApiKey, Credits, KeyInfo
from orcost_pipeline.openrouter.usage import read_usage
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.stored import StoredUsage

FULL_PASS_EVERY = timedelta(days=7)
MODELS_EVERY = timedelta(days=1)

Engine = dg.ResourceParam[sa.Engine]
SettingsParam = dg.ResourceParam[Settings]


def raw_result(
    step: SyncStep, rows: int, requests_made: int, asset_key: list[str] | None = None, **more: dg.MetadataValue
) -> dg.MaterializeResult:
    """What a data engineer asks of a raw asset: complete to when, how many rows, how many requests."""
    return dg.MaterializeResult(
        asset_key=asset_key,
        metadata={
            "as_of": dg.TimestampMetadataValue(step.as_of.timestamp()),
            "rows": rows,
            "requests_made": requests_made,
            **more,
        },
    )


@dg.asset(key=["raw", "account"], group_name="raw", kinds={"openrouter", "postgres"})
def raw_account(context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam) -> dg.MaterializeResult:
    """One row per run and account: the key that asks (`GET /key`) and the account's credits (`GET /credits`)."""
    with sync_step(context, warehouse, settings) as step:
        (key, credits_told), requests_made = step.ask(lambda client: _account(client, step.account))
        rows = step.store(["account"], wire_rows.account(key, credits_told), requests_made)
        balance = dg.MetadataValue.text(f"{credits_told.total_credits - credits_told.total_usage:,.2f} USD")
        return raw_result(step, rows, requests_made, balance=balance)


async def _account(client: OpenRouter, account: str) -> tuple[KeyInfo, Credits]:
    key = await client.key()
    if not key.can_manage:
        raise PermanentError(
            f'The key of account "{account}" is an ordinary key: it cannot list keys and usage. '
            "Make a management key (openrouter.ai/settings/management-keys) and put it in its place, then sync again."
        )
    return key, await client.credits()


@dg.asset(key=["raw", "workspace"], deps=[["raw", "account"]], group_name="raw", kinds={"openrouter", "postgres"})
def raw_workspace(
    context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam
) -> dg.MaterializeResult:
    """One row per run, account and workspace (`GET /workspaces`)."""
    with sync_step(context, warehouse, settings) as step:
        told, requests_made = step.ask(lambda client: client.workspaces())
        return raw_result(step, step.store(["workspace"], wire_rows.workspaces(told), requests_made), requests_made)


@dg.asset(
    key=["raw", "organization_member"], deps=[["raw", "account"]], group_name="raw", kinds={"openrouter", "postgres"}
)
def raw_organization_member(
    context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam
) -> dg.MaterializeResult:
    """One row per run, account and member of the organization (`GET /organization/members`); none for a person's."""
    with sync_step(context, warehouse, settings) as step:
        told, requests_made = step.ask(lambda client: client.members())
        rows = step.store(["organization_member"], wire_rows.members(told), requests_made)
        return raw_result(step, rows, requests_made)


@dg.asset(key=["raw", "api_key"], deps=[["raw", "workspace"]], group_name="raw", kinds={"openrouter", "postgres"})
def raw_api_key(context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam) -> dg.MaterializeResult:
    """One row per run, account and API key of all workspaces, disabled and expired too (`GET /keys`).

    A key that is no longer listed is asked for by its hash: a 404 proves that it was deleted.
    """
    with sync_step(context, warehouse, settings) as step:
        workspace_ids = _workspace_ids(step)
        known = StoredUsage(step.engine, step.account).known_keys()
        living = {key_hash for key_hash, key in known.items() if key.deleted_at is None}
        (listed, deleted), requests_made = step.ask(lambda client: _keys(client, workspace_ids, living))
        rows = step.store(["api_key"], wire_rows.api_keys(listed, deleted), requests_made)
        return raw_result(step, rows, requests_made, newly_deleted=dg.MetadataValue.int(len(deleted)))


async def _keys(client: OpenRouter, workspace_ids: list[str], living: set[str]) -> tuple[list[ApiKey], list[str]]:
    """Keys that are listed, or answer although the listing skipped them; and hashes that are gone."""
    listed = await client.api_keys(workspace_ids)
    missing = sorted(living - {key.hash for key in listed})
    answers = await asyncio.gather(*(client.api_key(key_hash) for key_hash in missing))
    found = [key for key in answers if key is not None]
    return listed + found, [key_hash for key_hash, key in zip(missing, answers, strict=True) if key is None]


def _workspace_ids(step: SyncStep) -> list[str]:
    with step.engine.connect() as connection:
        rows = connection.execute(
            sa.text("select workspace_id from raw.workspace where run_id = :run_id and account = :account"),
            {"run_id": step.latest(connection, "workspace"), "account": step.account},
        )
        return [row.workspace_id for row in rows]


@dg.multi_asset(
    name="raw_usage",
    specs=[
        dg.AssetSpec(
            ["raw", "usage_hourly"],
            deps=[["raw", "api_key"]],
            kinds={"openrouter", "postgres"},
            description="One row per run, API key (null: the whole account), UTC hour and model, of the hours that "
            "differ from what is stored (`POST /analytics/query`).",
        ),
        dg.AssetSpec(
            ["raw", "activity_daily"],
            deps=[["raw", "api_key"]],
            kinds={"openrouter", "postgres"},
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
    """Usage by hour and by day: the account first, then the keys of what differs. Read together: a day that changed has
    its hours read again with it."""
    with sync_step(context, warehouse, settings) as step:
        stored = StoredUsage(step.engine, step.account)
        keys = _listed_keys(step)
        last_full = stored.full_pass_at
        is_full = last_full is None or step.as_of - last_full >= FULL_PASS_EVERY
        since = window.since_day
        reading, requests_made = step.ask(
            lambda client: read_usage(client, stored, keys, step.as_of, since=since, is_full=is_full)
        )
        relations = ["usage_hourly", "activity_daily", *(["full_pass"] if is_full else [])]
        step.store(relations, wire_rows.usage(reading), requests_made)
    yield _hours_result(step, reading, requests_made)
    yield _days_result(step, reading)
    yield dg.AssetCheckResult(
        asset_key=["raw", "usage_hourly"],
        check_name="totals_are_credits_plus_byok",
        passed=reading.doubtful_totals == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"doubtful_rows": reading.doubtful_totals},
    )


def _hours_result(step: SyncStep, reading: UsageReading, requests_made: int) -> dg.MaterializeResult:
    rows = len(reading.account_hours) + sum(len(answer.cells) for answer in reading.key_hours)
    return raw_result(
        step,
        rows,
        requests_made,
        ["raw", "usage_hourly"],
        keys_asked=dg.MetadataValue.int(len({answer.key_hash for answer in reading.key_hours})),
        hours_asked=dg.MetadataValue.int(sum(len(window.hours()) for window in reading.windows)),
        hours_not_explained_yet=dg.MetadataValue.int(len(reading.unexplained_hours)),
    )


def _days_result(step: SyncStep, reading: UsageReading) -> dg.MaterializeResult:
    rows = len(reading.account_days) + sum(len(answer.rows) for answer in reading.key_days)
    days = dg.MetadataValue.text(", ".join(day.isoformat() for day in reading.days) or "none")
    return raw_result(step, rows, 0, ["raw", "activity_daily"], days_to_settle=days)


def _listed_keys(step: SyncStep) -> list[ApiKey]:
    """The living keys as the latest listing told them."""
    columns = ("name", "label", "created_at", "last_used_at")
    with step.engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                f"select key_hash as hash, usage_usd as usage, byok_usage_usd as byok_usage, {', '.join(columns)} "
                "from raw.api_key where run_id = :run_id and account = :account and not is_deleted"
            ),
            {"run_id": step.latest(connection, "api_key"), "account": step.account},
        )
        return [ApiKey.model_construct(**row) for row in rows.mappings()]


@dg.asset(key=["raw", "model"], group_name="raw", kinds={"openrouter", "postgres"})
def raw_model(context: dg.AssetExecutionContext, warehouse: Engine, settings: SettingsParam) -> dg.MaterializeResult:
    """One row per run and model: list prices (`GET /models`), read once a day."""
    with sync_step(context, warehouse, settings) as step:
        if _models_are_fresh(step):
            return raw_result(step, 0, 0, note=dg.MetadataValue.text("Read less than a day ago."))
        told, requests_made = step.ask(lambda client: client.models())
        return raw_result(step, step.store(["model"], wire_rows.models(told), requests_made), requests_made)


def _models_are_fresh(step: SyncStep) -> bool:
    with step.engine.connect() as connection:
        return connection.execute(
            sa.text(
                "select exists (select from raw.extracted where account = :account and relation = 'model' "
                "and as_of > :since)"
            ),
            {"account": step.account, "since": step.as_of - MODELS_EVERY},
        ).scalar_one()
