"""Sync Now: the sensor that runs what `ops.sync_request` asks for, and makes each request's status that of its runs.

Requests that wait for an account at a look become one run. Those that come in before it has started join it, unless
they ask for earlier days than it reads. So however many requests come in, at most one of their runs waits behind the
running one.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.defs.automation import HOURLY_SYNC, WAITING, run_request, served_elsewhere
from orcost_pipeline.defs.dead_runs import close_dead_runs, close_ended_runs
from orcost_pipeline.defs.resources import PARTITION_TAG, REQUEST_TAG, Surroundings, opened_warehouse
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import listed, plural, quoted
from orcost_pipeline.warehouse.requests import store
from orcost_pipeline.warehouse.requests.store import Progress, Requests

ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class Batch(NamedTuple):
    """Requests that one run of an account serves; `leader` is the id of the oldest."""

    leader: int
    account: str


class Sync(NamedTuple):
    """The runs of a batch, oldest first, and how far the newest is; a retry replaces the run that it retries."""

    run_ids: tuple[str, ...]
    is_waiting: bool
    has_ended: bool
    has_succeeded: bool


@dg.sensor(
    job_name=HOURLY_SYNC,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"orcost", "orcost_surroundings"},
    description="Sync Now: runs the requests in ops.sync_request (orcost resync, or "
    "select ops.request_sync() in any SQL client), those that wait together as one; a request's status follows its "
    "runs. A run whose process was killed is closed first: nothing waits for it.",
)
def sync_request_sensor(context: dg.SensorEvaluationContext) -> Sequence[dg.RunRequest] | dg.SkipReason:
    settings: Settings = context.resources.orcost
    if skipped := served_elsewhere(settings):
        return skipped
    around: Surroundings = context.resources.orcost_surroundings
    configured = [account.name for account in settings.accounts]
    with opened_warehouse(settings) as engine:
        close_dead_runs(context.instance, engine, around.clock(), around.sleep)
        close_ended_runs(context.instance, engine, around.clock())
        waiting, launched = serve_requests(context.instance, engine, configured, around.clock())
    if launched:
        return launched
    if waiting:
        return dg.SkipReason(f"{plural(waiting, 'request')} for a sync: their runs are queued or running.")
    return dg.SkipReason("No sync was requested.")


def serve_requests(
    instance: dg.DagsterInstance, engine: sa.Engine, configured: Sequence[str], now: datetime
) -> tuple[int, list[dg.RunRequest]]:
    """Forms batches, notes how far requests are, and returns how many are unfinished and the runs to launch for them.

    A run requested but not launched, because the daemon died, is returned again; its run key prevents a second one.
    """
    with engine.begin() as connection:
        for account in store.unknown_accounts(connection, configured):
            error = f"No account is called {quoted(account)}. Configured: {listed(configured)}."
            store.refuse(connection, account, error, now)
        requests = store.unfinished_requests(connection)
    if not requests:
        return 0, []
    syncs = syncs_of(instance, engine, requests)
    waiting = _waiting_batches(configured, requests, syncs)
    # Committed before a run is launched: whatever dies between the two, the same run is requested again.
    with engine.begin() as connection:
        # Only requests that were there before the run was seen waiting: it has read nothing when they were made.
        joined = [store.join_batch(connection, *batch, since, ids) for batch, since, ids in waiting if ids]
        busy = {batch.account for batch, _, _ in waiting}
        if store.form_batches(connection, [account for account in configured if account not in busy]) or any(joined):
            requests = store.unfinished_requests(connection)
    syncs = syncs_of(instance, engine, requests)
    unfinished = _note_progress(engine, configured, requests, syncs, now)
    return unfinished, [
        requested_run(batch, since)
        for batch, since in _since_by_batch(requests).items()
        if batch not in syncs and batch.account in configured
    ]


def requested_run(batch: Batch, since: date | None) -> dg.RunRequest:
    """The run that serves a batch, from UTC day `since` on if given."""
    run_key = f"sync-request-{batch.leader}-{batch.account}"
    day = since.isoformat() if since else None
    return run_request(batch.account, run_key=run_key, since=day, **{REQUEST_TAG: str(batch.leader)})


def syncs_of(instance: dg.DagsterInstance, engine: sa.Engine, requests: Iterable[Requests]) -> dict[Batch, Sync]:
    """How far the run of each batch is; batches without a run are missing.

    Where the run was deleted in Dagster, as the warehouse recorded it.
    """
    batches = {batch for it in requests for batch in _batches(it)}
    if not batches:
        return {}
    leaders = sorted({batch.leader for batch in batches})
    runs: dict[Batch, list[dg.DagsterRun]] = {}
    for run in reversed(instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: [str(leader) for leader in leaders]}))):
        if PARTITION_TAG in run.tags:
            runs.setdefault(Batch(int(run.tags[REQUEST_TAG]), run.tags[PARTITION_TAG]), []).append(run)
    found = {batch: _sync(of_batch) for batch, of_batch in runs.items() if batch in batches}
    if lacking := {batch.leader for batch in batches - found.keys()}:
        with engine.connect() as connection:
            recorded = store.recorded_runs(connection, lacking)
        for run in recorded:
            has_ended = run.status != "running"
            sync = Sync((run.run_id,), is_waiting=False, has_ended=has_ended, has_succeeded=run.status == "succeeded")
            found.setdefault(Batch(run.request_id, run.account), sync)
    return found


def _sync(runs: Sequence[dg.DagsterRun]) -> Sync:
    newest = runs[-1]
    return Sync(
        tuple(run.run_id for run in runs),
        is_waiting=newest.status in WAITING,
        # Dagster is about to launch the retry of a run that it has marked.
        has_ended=newest.status in ENDED and newest.tags.get("dagster/will_retry") != "true",
        has_succeeded=newest.status == dg.DagsterRunStatus.SUCCESS,
    )


def _batches(requests: Requests) -> list[Batch]:
    return [Batch(leader, account) for account, leader in requests.served_with.items()]


def _waiting_batches(
    configured: Iterable[str], requests: Sequence[Requests], syncs: Mapping[Batch, Sync]
) -> list[tuple[Batch, date | None, list[int]]]:
    """Batches whose run has not started, from which day on it reads, and the requests that could join."""
    return [
        (batch, since, [number for it in requests if _waits_for(it, batch.account) for number in it.ids])
        for batch, since in _since_by_batch(requests).items()
        if batch.account in configured and (batch not in syncs or syncs[batch].is_waiting)
    ]


def _waits_for(requests: Requests, account: str) -> bool:
    return requests.account in (None, account) and account not in requests.served_with


def _since_by_batch(requests: Iterable[Requests]) -> dict[Batch, date | None]:
    """The earliest day that a request of each batch asks for; None where none does."""
    days: dict[Batch, list[date]] = {}
    for it in requests:
        for batch in _batches(it):
            days.setdefault(batch, []).extend([it.since] if it.since else [])
    return {batch: min(asked, default=None) for batch, asked in days.items()}


def _note_progress(
    engine: sa.Engine,
    configured: Sequence[str],
    requests: Iterable[Requests],
    syncs: Mapping[Batch, Sync],
    now: datetime,
) -> int:
    """Notes what has changed, all requests with the same progress at once; returns how many stay unfinished."""
    changed: dict[Progress, list[int]] = {}
    unfinished = 0
    for it in requests:
        progress = progress_of(it, configured, syncs)
        if (progress.status, progress.run_ids) != (it.status, tuple(it.run_ids)):
            changed.setdefault(progress, []).extend(it.ids)
        unfinished += len(it.ids) if progress.status in ("queued", "running") else 0
    if changed:
        with engine.begin() as connection:
            for progress, ids in changed.items():
                store.note(connection, ids, progress, now)
    return unfinished


def progress_of(requests: Requests, configured: Sequence[str], syncs: Mapping[Batch, Sync]) -> Progress:
    """How far requests are: they end when the syncs of all their accounts have, and fail if one of these does."""
    accounts = [requests.account] if requests.account else configured
    batches = (Batch(requests.served_with[it], it) for it in accounts if it in requests.served_with)
    started = {batch.account: syncs[batch] for batch in batches if batch in syncs}
    run_ids = tuple(dict.fromkeys([*requests.run_ids, *(it for sync in started.values() for it in sync.run_ids)]))
    if not started:
        return Progress("queued", None, run_ids)
    if len(started) < len(accounts) or not all(sync.has_ended for sync in started.values()):
        return Progress("running", None, run_ids)
    if failed := sorted(account for account, sync in started.items() if not sync.has_succeeded):
        return Progress("failed", f"The sync of {listed(failed)} failed; see orcost status.", run_ids)
    return Progress("succeeded", None, run_ids)
