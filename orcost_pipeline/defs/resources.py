"""What assets are given: the deployment's settings, the warehouse under the account's lock, the window to sync.

`sync_step` is the frame of every asset that belongs to a sync: it knows account, run and instant, runs the step again
where the database was away for a moment, and turns an error into a sentence at the account, at the run and in Dagster.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import dagster as dg
import sqlalchemy as sa
import sqlalchemy.exc

from orcost_pipeline.defs.placement import relation_of
from orcost_pipeline.errors import OrcostError, TransientError
from orcost_pipeline.settings import Account, Settings
from orcost_pipeline.sync.step import Clock, Connect, SyncStep, open_api
from orcost_pipeline.text import message
from orcost_pipeline.warehouse import raw, runs
from orcost_pipeline.warehouse.failures import DatabaseUnavailableError, LockedError, database_errors
from orcost_pipeline.warehouse.locks import lock_holders
from orcost_pipeline.warehouse.opening import can_be_used, open_warehouse
from orcost_pipeline.warehouse.questions.accounts import is_stored
from orcost_pipeline.warehouse.questions.syncs import run_status

PARTITION_TAG = "dagster/partition"
ACCOUNT_TAG = "orcost/account"
REQUEST_TAG = "orcost/sync_request"
_RESUMED_TAGS = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")
READING_ROOT = "raw.account"
PUBLICATION_ROOT = "ref.api_key"
REATTRIBUTE = "reattribute"
RETRIES = 2
RETRY_SECONDS = 2


class SyncWindow(dg.ConfigurableResource):
    """How far back a run asks: nothing for what is new, `since` (YYYY-MM-DD) for everything from that UTC day on."""

    since: str | None = None

    @property
    def since_day(self) -> date | None:
        return date.fromisoformat(self.since) if self.since else None


def utc_now() -> datetime:
    """The clock, read where a run begins and nowhere below."""
    return datetime.now(UTC)


class Surroundings(NamedTuple):
    """What runs and sensors find around them: the time, the way to OpenRouter, and how to wait."""

    clock: Clock = utc_now
    connect: Connect = open_api
    sleep: Callable[[float], None] = time.sleep


SURROUNDINGS = Surroundings()


def deployment(settings: Settings) -> dg.ResourceDefinition:
    """The settings that the definitions were built with, for assets and sensors."""

    @dg.resource(description="Accounts, folders, addresses.")
    def orcost_settings() -> Settings:
        return settings

    return orcost_settings


@dg.resource(
    required_resource_keys={"orcost", "orcost_surroundings"},
    description="The warehouse. A run for an account holds the account's lock as long as it lasts.",
)
def orcost_warehouse(context: dg.InitResourceContext) -> Iterator[sa.Engine]:
    settings: Settings = context.resources.orcost
    now: Clock = context.resources.orcost_surroundings.clock
    engine = open_warehouse(secret(settings.database_url), settings.home)
    account = context.run.tags.get(PARTITION_TAG) if context.run else None
    try:
        if context.run is None or account is None:
            yield engine
            return
        waiting = lambda: dg.get_dagster_logger().info("Another sync of %s is running; waiting for it.", account)  # noqa: E731
        with database_errors(), runs.sync_lock(engine, account, waiting):
            if is_sync(context.run) and _can_start(engine, settings, account):
                request_id = context.run.tags.get(REQUEST_TAG)
                runs.start_run(engine, context.run.run_id, account, int(request_id) if request_id else None, now())
            yield engine
    finally:
        engine.dispose()


def _can_start(engine: sa.Engine, settings: Settings, account: str) -> bool:
    """Whether a run is noted: one of an account without a key that was never heard of leaves nothing behind."""
    has_key = any(known.name == account and known.api_key for known in settings.accounts)
    return has_key or is_stored(engine, account)


def is_sync(run: dg.DagsterRun) -> bool:
    """Whether the run publishes what it reads, or what the run read that it resumes; one that reads or attributes alone
    is no sync."""
    selected = {relation_of(key) for key in run.asset_selection or ()}
    if run.job_name == REATTRIBUTE or not selected:
        return run.job_name != REATTRIBUTE
    return PUBLICATION_ROOT in selected and (READING_ROOT in selected or _is_resumed(run))


def _is_resumed(run: dg.DagsterRun) -> bool:
    return any(run.tags.get(tag) == "true" for tag in _RESUMED_TAGS)


def extraction_id(run: dg.DagsterRun, find: Callable[[str], dg.DagsterRun | None] = lambda run_id: None) -> str:
    """The run whose extraction this one adds to: a retry from what failed goes on with what its parent read."""
    while run.parent_run_id and _is_resumed(run):
        parent = find(run.parent_run_id)
        if parent is None:
            return run.parent_run_id
        run = parent
    return run.run_id


@contextmanager
def sync_step(
    context: dg.AssetExecutionContext, engine: sa.Engine, settings: Settings, around: Surroundings
) -> Iterator[SyncStep]:
    """The frame of a step; an error ends the run with one sentence, and is retried only where that can help.

    Once a step has failed, nothing will be published: no further one waits for a server that is down.
    """
    if not context.has_partition_key:
        raise dg.Failure("Choose an account to sync: this launch has no partition.", allow_retries=False)
    account, run = context.partition_key, context.run
    extraction = extraction_id(run, context.instance.get_run_by_id)
    try:
        with survived_restart(context, settings, around):
            configured = settings.account(account)
            with engine.begin() as connection:
                if run_status(connection, run.run_id, account) == "failed":
                    raise dg.Failure("Nothing is asked: an earlier step of this sync has failed.", allow_retries=False)
                as_of = raw.start_extraction(connection, extraction, account, around.clock(), key_sha256(configured))
            yield SyncStep(
                configured,
                engine,
                run.run_id,
                extraction,
                as_of,
                around.clock,
                around.connect,
                tolerance_usd=settings.tolerance_usd,
                tell=context.log.info,
            )
    except (dg.RetryRequested, dg.Failure):
        raise
    except Exception as error:
        told = note_failure(engine, run, account, error, around.clock())
        raise dg.Failure(told, allow_retries=isinstance(error, TransientError)) from error


@contextmanager
def survived_restart(context: dg.AssetExecutionContext, settings: Settings, around: Surroundings) -> Iterator[None]:
    """Waits for a warehouse that went away; where it can be used again, raises RetryRequested, `RETRIES` times.

    No RetryPolicy: under one, Dagster runs a step again that Ctrl-C or SIGTERM stopped. The wait is before the request:
    Dagster writes to the same database, and fails with it.
    """
    try:
        with database_errors():
            yield
    except DatabaseUnavailableError as error:
        around.sleep(RETRY_SECONDS)
        if context.retry_number == RETRIES or not can_be_used(secret(settings.database_url), settings.home):
            raise
        context.log.warning("%s Now it can be used: the step runs again.", error)
        raise dg.RetryRequested(max_retries=RETRIES) from error


def note_failure(engine: sa.Engine, run: dg.DagsterRun, account: str, error: Exception, now: datetime) -> str:
    """Says at the run and at the account what is wrong, where the database can still be told; returns what it says."""
    told = str(error) if isinstance(error, OrcostError) else unforeseen(error)
    told = message(told)
    try:
        if isinstance(error, LockedError):
            with engine.connect() as connection:
                told = f"{told} {lock_holders(connection)}".strip()
        return runs.fail(engine, run.run_id, account, error, told, now)
    except sqlalchemy.exc.SQLAlchemyError:
        return told


def unforeseen(error: Exception) -> str:
    """A mistake of this program; its traceback is the cause of the failure, in Dagster."""
    first_line = next(iter(str(error).splitlines()), "")
    return (
        f"Something went wrong that should not have: {type(error).__name__}: {first_line}\n"
        "Sync again; if it stays, report it with the traceback in Dagster's log."
    )


def key_sha256(account: Account) -> str | None:
    """What tells the account's key from another."""
    return hashlib.sha256(account.api_key.get_secret_value().encode()).hexdigest() if account.api_key else None


def secret(value: Any) -> str | None:
    return value.get_secret_value() if value is not None else None
