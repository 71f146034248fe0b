"""Which syncs ran and run, and which are requested. Stays out: noting them (`runs.py`)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.locks import SYNC_LOCK
from orcost_pipeline.warehouse.questions.asking import ask, records


class RunningSync(NamedTuple):
    """A run that was noted as running; it is alive as long as its session holds the account's lock."""

    account: str
    started_at: datetime
    is_alive: bool


class WaitingRequest(NamedTuple):
    """A request for a sync that no run has taken up; no account means all."""

    id: int
    account: str | None
    requested_at: datetime


def running_syncs(connection: sa.Connection) -> Mapping[str, RunningSync]:
    """The newest run of each account that is noted as running."""
    rows = ask(connection, "running_syncs").all()
    locked = locked_accounts(connection.engine, [row.account for row in rows]) if rows else set()
    return {row.account: RunningSync(row.account, row.started_at, row.account in locked) for row in rows}


def locked_accounts(engine: sa.Engine, accounts: Iterable[str]) -> set[str]:
    """Those of the accounts whose lock a session holds. Looks only: taking it would make a starting run wait."""
    with engine.connect() as connection:
        return set(ask(connection, "locked_accounts", accounts=list(accounts), kind=SYNC_LOCK).scalars())


def accounts_of_runs(engine: sa.Engine, run_ids: Iterable[str]) -> dict[str, str]:
    """Run → account, of those that are syncs or that read for one."""
    with engine.connect() as connection:
        return {row.run_id: row.account for row in ask(connection, "run_accounts", run_ids=list(run_ids))}


def unclosed_runs(engine: sa.Engine) -> list[str]:
    """The ids of the runs that are noted as running."""
    with engine.connect() as connection:
        return list(ask(connection, "unclosed_runs").scalars())


def run_status(connection: sa.Connection, run_id: str, account: str) -> str | None:
    """The status of a run; None for one that was not noted as a sync, which publishes what it reads."""
    return ask(connection, "run_status", run_id=run_id, account=account).scalar()


def run_problems(engine: sa.Engine, run_ids: Iterable[str]) -> Sequence[str]:
    """What the runs could not do, in their own words."""
    with engine.connect() as connection:
        return list(ask(connection, "run_problems", run_ids=list(run_ids)).scalars())


def waiting_requests(connection: sa.Connection, before: datetime) -> Sequence[WaitingRequest]:
    """The requests from before an instant that are still queued, oldest first."""
    return records(WaitingRequest, ask(connection, "waiting_requests", before=before))


class RequestStatus(NamedTuple):
    """How far a request is, and what went wrong."""

    status: str
    error: str | None


def requested_sync(connection: sa.Connection, request_id: int) -> RequestStatus:
    """What became of a request so far. Raises ValueError for an id that no request has."""
    (status,) = records(RequestStatus, ask(connection, "requested_sync", id=request_id))
    return status
