"""Deletes data older than the `[retention]` settings: raw rows, requests and runs of syncs, alerts, Dagster's runs.

Dagster's storage is purged by SQL, a hundred runs a statement, where it is in the warehouse's database: its own
deletion of a run leaves the verdicts of its checks.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.project_file import RetentionConfig
from orcost_pipeline.text import plural
from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.statements import statement

RUNS_AT_ONCE = 100
EVENTS_AT_ONCE = 10_000


class Purged(NamedTuple):
    """Numbers of rows removed, and whether no row is left that is too old."""

    raw_rows: int = 0
    requests: int = 0
    runs: int = 0
    alerts: int = 0
    dagster_runs: int = 0
    dagster_events: int = 0
    is_complete: bool = True

    def plus(self, other: "Purged") -> "Purged":
        """The sum of both."""
        return Purged(
            self.raw_rows + other.raw_rows,
            self.requests + other.requests,
            self.runs + other.runs,
            self.alerts + other.alerts,
            self.dagster_runs + other.dagster_runs,
            self.dagster_events + other.dagster_events,
        )

    def __str__(self) -> str:
        counted = {
            "row of raw": (self.raw_rows, "rows of raw"),
            "request for a sync": (self.requests, "requests for a sync"),
            "run of a sync": (self.runs, "runs of a sync"),
            "alert": (self.alerts, "alerts"),
            "run of Dagster": (self.dagster_runs, "runs of Dagster"),
            "event of Dagster": (self.dagster_events, "events of Dagster"),
        }
        removed = ", ".join(plural(count, one, many) for one, (count, many) in counted.items() if count)
        more = "" if self.is_complete else " The next look goes on."
        return f"Removed: {removed}.{more}" if removed else f"No data is older than the [retention] settings.{more}"


def purge(engine: sa.Engine, kept: RetentionConfig, now: datetime, is_over: Callable[[], bool]) -> Purged:
    """Removes rows that are too old at `now`, in short transactions, until none is left or `is_over`."""
    done = Purged()
    for part in _parts(engine, kept, now):
        done = done.plus(part)
        if is_over():
            return done._replace(is_complete=False)
    return done


def _parts(engine: sa.Engine, kept: RetentionConfig, now: datetime) -> Iterator[Purged]:
    """Removes one part after the other, each in a transaction of its own."""
    yield from _raw(engine, timedelta(days=kept.raw_days), now)
    yield _history(engine, now - timedelta(days=kept.history_days))
    with engine.connect() as connection:
        has_dagster = connection.execute(_sql("dagster_is_there")).scalar_one()
    if has_dagster:
        yield from _dagster(engine, now - timedelta(days=kept.runs_days))


def _raw(engine: sa.Engine, kept: timedelta, now: datetime) -> Iterator[Purged]:
    """An account that fails purges nothing by itself: what its runs had read before they failed."""
    with engine.connect() as connection:
        clocks = connection.execute(_sql("raw_clocks"), {"now": now}).all()
    for account, as_of in clocks:
        with engine.begin() as connection:
            rows = raw.purge(connection, account, as_of, kept)
        # Committed, for nothing after this may run.
        yield Purged(raw_rows=rows)


def _history(engine: sa.Engine, before: datetime) -> Purged:
    parameters = {"before": before}
    with engine.begin() as connection:
        # Requests that a run names stay, so the runs go first.
        runs = connection.execute(_sql("sync_runs"), parameters).rowcount
        requests = connection.execute(_sql("sync_requests"), parameters).rowcount
        alerts = connection.execute(_sql("alerts"), parameters).rowcount
    return Purged(runs=runs, requests=requests, alerts=alerts)


def _dagster(engine: sa.Engine, before: datetime) -> Iterator[Purged]:
    with engine.connect() as connection:
        old = list(connection.execute(_sql("dagster_old_runs"), {"before": before}).scalars())
    for first in range(0, len(old), RUNS_AT_ONCE):
        run_ids = old[first : first + RUNS_AT_ONCE]
        with engine.begin() as connection:
            runs, events = connection.execute(_sql("dagster_runs"), {"run_ids": run_ids}).one()
        yield Purged(dagster_runs=runs, dagster_events=events)
    removed = EVENTS_AT_ONCE
    while removed == EVENTS_AT_ONCE:
        with engine.begin() as connection:
            removed = connection.execute(_sql("dagster_events"), {"before": before, "count": EVENTS_AT_ONCE}).rowcount
        yield Purged(dagster_events=removed)
    with engine.begin() as connection:
        connection.execute(_sql("dagster_verdicts"), {"before": before})
    yield Purged()


def _sql(name: str) -> sa.TextClause:
    return statement("retention", name)
