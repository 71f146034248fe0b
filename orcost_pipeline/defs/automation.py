"""Jobs, the hourly schedule, and two sensors: one runs requested syncs, one reacts to a changed mapping."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from typing import Any

import dagster as dg

from orcost_pipeline.defs.dead_runs import close_dead_runs, close_ended_runs
from orcost_pipeline.defs.placement import MAPPING, Placement
from orcost_pipeline.defs.publish import PUBLISHED
from orcost_pipeline.defs.resources import (
    ACCOUNT_TAG,
    PARTITION_TAG,
    REATTRIBUTE,
    REQUEST_TAG,
    SyncWindow,
    secret,
    utc_now,
)
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.mapping_source import NO_MAPPING, companies_sha256, content_sha256
from orcost_pipeline.text import listed, quoted
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.deployment import serving
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.opening import open_database, open_warehouse
from orcost_pipeline.warehouse.questions.accounts import account_states
from orcost_pipeline.warehouse.questions.mapping import version_in_force
from orcost_pipeline.warehouse.questions.syncs import SyncRequest, unfinished_requests

# Five minutes after each hour.
EVERY_HOUR = "5 * * * *"

_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

HOURLY_SYNC = "hourly_sync"


def jobs(place: Placement, relations: Iterable[str]) -> list[Any]:
    """The jobs over the assets of these relations, each in one process, which holds its account's lock to the end."""
    every, mapping, published = (
        dg.AssetSelection.assets(*(place.key(relation) for relation in wanted))
        for wanted in (relations, [MAPPING], [MAPPING, *PUBLISHED])
    )
    return [
        dg.define_asset_job(
            HOURLY_SYNC,
            selection=every,
            executor_def=dg.in_process_executor,
            description="**Sync Now:** Materialize all, choose an account, launch. "
            "Everything an account needs: read OpenRouter, attribute to companies, publish. One run per account.",
        ),
        dg.define_asset_job(
            "load_company_mapping",
            selection=mapping,
            executor_def=dg.in_process_executor,
            description="Validates the mapping and brings it into force; costs follow with the next sync.",
        ),
        dg.define_asset_job(
            REATTRIBUTE,
            selection=published,
            executor_def=dg.in_process_executor,
            description="What is stored, attributed by the mapping as it is now; OpenRouter is asked nothing.",
        ),
    ]


def run_request(account: str, *, run_key: str | None = None, since: str | None = None, **tags: str) -> dg.RunRequest:
    """A run of hourly_sync for one account, from UTC day `since` (YYYY-MM-DD) on if given.

    Two runs of one account never run at once.
    """
    return dg.RunRequest(
        run_key=run_key,
        partition_key=account,
        tags={ACCOUNT_TAG: account, **tags},
        run_config=dg.RunConfig(resources={"orcost_window": SyncWindow(since=since)}),
    )


def served_elsewhere(settings: Settings) -> dg.SkipReason | None:
    """Why this daemon launches nothing: an `orcost up` serves the same database; None where none does.

    None too where the database cannot be reached, which the runs then report.
    """
    if settings.is_of_up:
        return None
    with suppress(OrcostError), database_errors():
        engine = open_database(secret(settings.database_url), settings.home)
        try:
            with engine.connect() as connection:
                if who := serving(connection):
                    return dg.SkipReason(f"An orcost up does this for the same database: {who}.")
        finally:
            engine.dispose()
    return None


def hourly_schedule(cron_schedule: str) -> dg.ScheduleDefinition:
    """The schedule that syncs every account; the cron expression is UTC."""

    @dg.schedule(
        name="hourly_schedule",
        job_name=HOURLY_SYNC,
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        required_resource_keys={"orcost"},
        description="Syncs every account. A missed hour is caught up by the next.",
    )
    def due(context: dg.ScheduleEvaluationContext) -> Sequence[dg.RunRequest] | dg.SkipReason:
        at = context.scheduled_execution_time.astimezone(UTC)
        settings: Settings = context.resources.orcost
        if skipped := served_elsewhere(settings):
            return skipped
        return [
            run_request(account.name, run_key=f"hourly-{at:%Y-%m-%dT%H:%M}-{account.name}")
            for account in settings.accounts
        ]

    return due


@dg.sensor(
    job_name=HOURLY_SYNC,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"orcost"},
    description="Sync Now: runs the requests in ops.sync_request (orcost resync, or "
    "select ops.request_sync() in any SQL client); a request's status follows its runs. "
    "A run whose process was killed is closed first: nothing waits for it.",
)
def sync_request_sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    settings: Settings = context.resources.orcost
    if skipped := served_elsewhere(settings):
        yield skipped
        return
    configured = [account.name for account in settings.accounts]
    engine = open_warehouse(secret(settings.database_url), settings.home)
    try:
        close_dead_runs(context.instance, engine, utc_now())
        close_ended_runs(context.instance, engine, utc_now())
        requests = unfinished_requests(engine)
        if not requests:
            yield dg.SkipReason("No sync was requested.")
        for request in requests:
            accounts = [request.account] if request.account else configured
            started = runs_of(context.instance, request)
            status, error = request_status(request, accounts, configured, started)
            runs.update_request(engine, request.id, status, error, utc_now())
            # A run requested but not launched (the daemon died) is requested again; its run key prevents a second one.
            if status in ("queued", "running"):
                yield from (requested_run(request, account) for account in accounts if account not in started)
    finally:
        engine.dispose()


@dg.sensor(
    job_name=REATTRIBUTE,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"orcost"},
    description="Looks at the mapping and the list of companies every 15 seconds. Where one changed, every account is "
    "attributed anew at once, without asking OpenRouter. A wrong one is reported once, by the checks of "
    "ref/company_mapping; what is in force stays.",
)
def mapping_change_sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    settings: Settings = context.resources.orcost
    if skipped := served_elsewhere(settings):
        yield skipped
        return
    engine = open_warehouse(secret(settings.database_url), settings.home)
    try:
        mapping, companies = content_sha256(settings, engine.connect), companies_sha256(settings)
        seen = f"{mapping} {companies}"
        if seen == context.cursor:
            yield dg.SkipReason("The mapping is as it was.")
            return
        with engine.connect() as connection:
            version = version_in_force(connection)
            synced = [account.account for account in account_states(connection) if account.as_of]
    finally:
        engine.dispose()
    is_listed_anew = context.cursor is not None and not context.cursor.endswith(f" {companies}")
    context.update_cursor(seen)
    if mapping == (version.content_sha256 if version else NO_MAPPING) and not is_listed_anew:
        yield dg.SkipReason("The mapping is in force.")
        return
    for account in settings.accounts:
        if account.name in synced:
            yield dg.RunRequest(partition_key=account.name, tags={ACCOUNT_TAG: account.name})


def requested_run(request: SyncRequest, account: str) -> dg.RunRequest:
    """The run of one account for a sync request."""
    since = request.since.isoformat() if request.since else None
    run_key = f"sync-request-{request.id}-{account}"
    return run_request(account, run_key=run_key, since=since, **{REQUEST_TAG: str(request.id)})


def runs_of(instance: dg.DagsterInstance, request: SyncRequest) -> dict[str, dg.DagsterRun]:
    """The newest run of the request for each account; a retry replaces the run that it retries."""
    found = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: str(request.id)}))
    return {run.tags[PARTITION_TAG]: run for run in reversed(found) if PARTITION_TAG in run.tags}


def _has_ended(run: dg.DagsterRun) -> bool:
    """Whether the run has ended and Dagster is not about to retry it."""
    return run.status in _FINISHED and run.tags.get("dagster/will_retry") != "true"


def request_status(
    request: SyncRequest, accounts: Sequence[str], configured: Sequence[str], started: dict[str, dg.DagsterRun]
) -> tuple[str, str | None]:
    """Status and error of a request: it ends when the runs of all accounts have, and fails if one of them does."""
    unknown = [account for account in accounts if account not in configured]
    if unknown:
        return "failed", f"No account is called {quoted(unknown[0])}. Configured: {listed(configured)}."
    if not started:
        return "queued", None
    if len(started) < len(accounts) or not all(_has_ended(run) for run in started.values()):
        return "running", None
    failed = [account for account, run in started.items() if run.status != dg.DagsterRunStatus.SUCCESS]
    if failed:
        return "failed", f"The sync of {listed(sorted(failed))} failed; see orcost status."
    return "succeeded", None
