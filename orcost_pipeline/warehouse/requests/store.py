"""Rows of `ops.sync_request`: requests that wait together become a batch, which one run per account serves.

A batch is led by its oldest request: `served_with` has, for each account, the id of the leader.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.text import message
from orcost_pipeline.warehouse.questions.asking import records
from orcost_pipeline.warehouse.statements import statement


class Requests(NamedTuple):
    """Unfinished requests in the same state; no account means all of them.

    `since` is the earliest UTC day that one of them asks for, None where none does. `served_with` is account → id of
    the leader of the batch, `run_ids` the runs known so far.
    """

    account: str | None
    status: str
    served_with: Mapping[str, int]
    run_ids: Sequence[str]
    ids: Sequence[int]
    since: date | None


class RecordedRun(NamedTuple):
    """A run as `ops.sync_run` has it."""

    request_id: int
    account: str
    run_id: str
    status: str


class Progress(NamedTuple):
    """What becomes of a request: its status, what went wrong, and the ids of its runs."""

    status: str
    error: str | None
    run_ids: tuple[str, ...]


def unfinished_requests(connection: sa.Connection) -> list[Requests]:
    """The requests that are queued or running, by state, oldest first."""
    return records(Requests, connection.execute(_sql("unfinished")))


def unknown_accounts(connection: sa.Connection, configured: Collection[str]) -> Sequence[str]:
    """The accounts that unfinished requests name and that are not configured."""
    return list(connection.execute(_sql("unknown_accounts"), {"configured": list(configured)}).scalars())


def refuse(connection: sa.Connection, account: str, error: str, now: datetime) -> None:
    """Fails the unfinished requests for an account."""
    connection.execute(_sql("refuse"), {"account": account, "error": message(error), "now": now})


def form_batches(connection: sa.Connection, accounts: Collection[str]) -> int:
    """Makes the requests that wait for each of these accounts one batch; returns how many requests got one."""
    return connection.execute(_sql("batch"), {"accounts": list(accounts)}).rowcount


def join_batch(connection: sa.Connection, leader: int, account: str, since: date | None, ids: Collection[int]) -> int:
    """Adds those of the requests to a batch that its run, which reads from `since` on, answers; returns how many."""
    parameters = {"leader": leader, "account": account, "since": since, "ids": list(ids)}
    return connection.execute(_sql("join"), parameters).rowcount


def recorded_runs(connection: sa.Connection, leaders: Iterable[int]) -> list[RecordedRun]:
    """The newest run of each account that served a batch, for the batches of these leaders."""
    return records(RecordedRun, connection.execute(_sql("recorded_runs"), {"request_ids": list(leaders)}))


def note(connection: sa.Connection, ids: Collection[int], progress: Progress, now: datetime) -> None:
    """Makes this the progress of all the requests."""
    parameters = {
        "ids": list(ids),
        "status": progress.status,
        "error": message(progress.error) if progress.error else None,
        "run_ids": list(progress.run_ids),
        "now": now,
    }
    connection.execute(_sql("note"), parameters)


def _sql(name: str) -> sa.TextClause:
    return statement("requests", name)
