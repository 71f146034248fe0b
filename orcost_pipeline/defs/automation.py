"""Jobs, the hourly schedule, and the sensor that reacts to a changed mapping."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from typing import Any, NamedTuple

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.defs.placement import MAPPING, Placement
from orcost_pipeline.defs.publish import PUBLISHED
from orcost_pipeline.defs.resources import (
    ACCOUNT_TAG,
    PARTITION_TAG,
    REATTRIBUTE,
    SyncWindow,
    opened_warehouse,
    secret,
)
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.mapping_source import companies_sha256
from orcost_pipeline.sync.sources import NOTHING, content_sha256
from orcost_pipeline.text import listed
from orcost_pipeline.warehouse.deployment import serving
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.opening import open_database
from orcost_pipeline.warehouse.questions.accounts import account_states, outdated_accounts
from orcost_pipeline.warehouse.questions.mapping import version_in_force
from orcost_pipeline.warehouse.questions.plans import plan_version_in_force

# Five minutes after each hour.
EVERY_HOUR = "5 * * * *"

HOURLY_SYNC = "hourly_sync"
HOURLY_SCHEDULE = "hourly_schedule"
SCHEDULE_TAG = "dagster/schedule_name"

# A run in one of these has not read anything yet: it will find all that is there when it does.
WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_WAIT = "The last scheduled run of {accounts} has not started yet; it reads what this one would."


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


def reattribution(account: str) -> dg.RunRequest:
    """A run of reattribute for one account."""
    return dg.RunRequest(partition_key=account, tags={ACCOUNT_TAG: account})


def accounts_with_waiting_run(instance: dg.DagsterInstance, job_name: str, **tags: str) -> set[str]:
    """The accounts for which a run of the job, with these tags, has not started yet. One such run is enough."""
    waiting = instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=list(WAITING), tags=tags))
    return {run.tags[PARTITION_TAG] for run in waiting if PARTITION_TAG in run.tags}


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
        name=HOURLY_SCHEDULE,
        job_name=HOURLY_SYNC,
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        required_resource_keys={"orcost"},
        description="Syncs every account whose last scheduled run has started. A missed hour is caught up by the next.",
    )
    def due(context: dg.ScheduleEvaluationContext) -> Sequence[dg.RunRequest] | dg.SkipReason:
        at = context.scheduled_execution_time.astimezone(UTC)
        settings: Settings = context.resources.orcost
        if skipped := served_elsewhere(settings):
            return skipped
        waiting = accounts_with_waiting_run(context.instance, HOURLY_SYNC, **{SCHEDULE_TAG: HOURLY_SCHEDULE})
        due = [account.name for account in settings.accounts if account.name not in waiting]
        if not due:
            return dg.SkipReason(_WAIT.format(accounts=listed(sorted(waiting))))
        if waiting:
            context.log.info(_WAIT.format(accounts=listed(sorted(waiting))))
        return [run_request(account, run_key=f"hourly-{at:%Y-%m-%dT%H:%M}-{account}") for account in due]

    return due


class _Files(NamedTuple):
    """Hashes of the files or tables that people maintain; a cursor of the sensor has them in this order."""

    mapping: str
    companies: str
    plans: str
    rates: str


def _files_now(settings: Settings, engine: sa.Engine) -> _Files:
    return _Files(
        content_sha256(settings.mapping, engine.connect),
        companies_sha256(settings),
        content_sha256(settings.price_plans, engine.connect),
        content_sha256(settings.exchange_rates, engine.connect),
    )


def _is_in_force(connection: sa.Connection, files: _Files) -> bool:
    """Whether the mapping and the price plans, which have versions, are those in force."""
    mapping, plans = version_in_force(connection), plan_version_in_force(connection)
    in_force = [version.content_sha256 if version else NOTHING for version in (mapping, plans)]
    return [files.mapping, files.plans] == in_force


def _is_as_seen(cursor: str | None, files: _Files) -> bool:
    """Whether the files without versions are as the sensor saw them last; True where it saw none yet."""
    seen = dict(zip(_Files._fields, (cursor or "").split(), strict=False))
    return all(seen.get(name, getattr(files, name)) == getattr(files, name) for name in ("companies", "rates"))


@dg.sensor(
    job_name=REATTRIBUTE,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"orcost"},
    description="Looks at the mapping, the list of companies, price plans and exchange rates every 15 seconds. Where "
    "one changed, every account is attributed and charged anew at once, without asking OpenRouter. A wrong one is "
    "reported once, by the checks of ref/company_mapping; what is in force stays.",
)
def mapping_change_sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    settings: Settings = context.resources.orcost
    if skipped := served_elsewhere(settings):
        yield skipped
        return
    with opened_warehouse(settings) as engine:
        files = _files_now(settings, engine)
        seen = " ".join(files)
        if seen == context.cursor:
            yield dg.SkipReason("The mapping and the other files are as they were.")
            return
        with engine.connect() as connection:
            if _is_in_force(connection, files) and _is_as_seen(context.cursor, files):
                # A sync that failed after it had loaded them left an account as it was.
                behind = outdated_accounts(connection)
            else:
                behind = [account.account for account in account_states(connection) if account.as_of]
    context.update_cursor(seen)
    accounts = [account for account in settings.accounts if account.name in behind]
    if not accounts:
        yield dg.SkipReason("Every account is published by the mapping and the price plans.")
        return
    waiting = accounts_with_waiting_run(context.instance, REATTRIBUTE)
    for account in accounts:
        if account.name not in waiting:
            yield reattribution(account.name)
