"""`ops.*` and the state of `ref.account`: which sync ran for which account, how it ended, who asked for it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.errors import ForbiddenError, InvalidKeyError, TransientError
from orcost_pipeline.warehouse.database import SYNC_LOCK, lock


class SyncRequest(NamedTuple):
    """A request for a sync that is not finished; no account means all."""

    id: int
    account: str | None
    since: date | None


@contextmanager
def sync_lock(engine: sa.Engine, account: str, waiting: object = None) -> Iterator[None]:
    """One sync at a time per account: a second one waits. The lock is a session's: a killed process lets go of it."""
    with engine.connect() as connection, lock(connection, SYNC_LOCK, account, waiting):
        yield


def start_run(engine: sa.Engine, run_id: str, account: str, request_id: int | None, now: datetime) -> None:
    """Notes a run, once; whatever still runs for the account died, for the caller holds its lock."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("insert into ref.account (account) values (:account) on conflict do nothing"), {"account": account}
        )
        connection.execute(
            sa.text(
                "update ops.sync_run set status = 'abandoned', finished_at = :now, "
                "error = 'The process died; nothing of it was published that is not whole.' "
                "where account = :account and status = 'running' and run_id <> :run_id"
            ),
            {"account": account, "run_id": run_id, "now": now},
        )
        connection.execute(
            sa.text(
                "insert into ops.sync_run (run_id, account, request_id, started_at, status) "
                "values (:run_id, :account, :request_id, :now, 'running') on conflict do nothing"
            ),
            {"run_id": run_id, "account": account, "request_id": request_id, "now": now},
        )


def note_problem(engine: sa.Engine, run_id: str, problem: str) -> None:
    """Something that a person should mend although the sync goes on, such as a refused mapping."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("update ops.sync_run set error = :problem where run_id = :run_id"),
            {"run_id": run_id, "problem": problem},
        )


def succeed(
    connection: sa.Connection, run_id: str, extraction_id: str, account: str, as_of: datetime, rows: int, now: datetime
) -> None:
    """Closes the run in the transaction that publishes it."""
    connection.execute(
        sa.text(
            "update ops.sync_run set status = 'succeeded', finished_at = :now, as_of = :as_of, rows_written = :rows, "
            "requests_made = (select coalesce(sum(requests_made), 0) from raw.extracted "
            "where run_id = :extraction_id and account = :account) "
            "where run_id = :run_id and account = :account"
        ),
        {
            "run_id": run_id,
            "extraction_id": extraction_id,
            "account": account,
            "as_of": as_of,
            "rows": rows,
            "now": now,
        },
    )
    connection.execute(
        sa.text("update ref.account set checked_at = :now where account = :account"), {"account": account, "now": now}
    )


def fail(engine: sa.Engine, run_id: str, account: str, error: Exception, now: datetime) -> None:
    """Closes the run, and says at the account what is wrong; what is published stays."""
    parameters = {"run_id": run_id, "account": account, "error": str(error), "now": now, "status": _status(error)}
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "update ops.sync_run set status = 'failed', finished_at = :now, error = :error "
                "where run_id = :run_id and account = :account"
            ),
            parameters,
        )
        connection.execute(
            sa.text(
                "update ref.account set status = :status, checked_at = :now, error = :error where account = :account"
            ),
            parameters,
        )


def _status(error: Exception) -> str:
    if isinstance(error, InvalidKeyError | ForbiddenError):
        return "invalid_key"
    return "unreachable" if isinstance(error, TransientError) else "failed"


def run_problems(engine: sa.Engine, run_ids: Iterable[str]) -> Sequence[str]:
    """What the runs could not do, in their own words."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select error from ops.sync_run where run_id = any(:run_ids) and error is not null order by account"
            ),
            {"run_ids": list(run_ids)},
        )
        return [row.error for row in rows]


def unfinished_requests(engine: sa.Engine) -> list[SyncRequest]:
    """Requests that are queued or running, oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select id, account, since from ops.sync_request where status in ('queued', 'running') "
                "order by id limit 100"
            )
        )
        return [SyncRequest(*row) for row in rows]


def update_request(engine: sa.Engine, request_id: int, status: str, error: str | None, now: datetime) -> None:
    """Makes a request's status that of its runs."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "update ops.sync_request set status = :status, error = :error, "
                "finished_at = case when :status in ('succeeded', 'failed') then cast(:now as timestamptz) end "
                "where id = :id and (status, error) is distinct from (:status, :error)"
            ),
            {"id": request_id, "status": status, "error": error, "now": now},
        )
