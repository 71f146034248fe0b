"""Notes in `ops.*` and `ref.account` which sync runs for which account, how it ended, who asked for it.

Stays out: reading it (`questions/syncs.py`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime

import sqlalchemy as sa

from orcost_pipeline.errors import AccountTwiceError, ClockError, InvalidKeyError, OtherAccountError, TransientError
from orcost_pipeline.text import message
from orcost_pipeline.warehouse.locks import SYNC_LOCK, kept_lock
from orcost_pipeline.windows import CLOCK_WRONG

DIED = "The process died; nothing of it was published that is not whole."
STOPPED = "The sync ended before its costs were published; nothing was lost. Sync again."


def sync_lock(
    engine: sa.Engine, account: str, waiting: Callable[[], None] = lambda: None
) -> AbstractContextManager[object]:
    """One sync at a time per account: a second one waits. The lock is a session's: a killed process lets go of it."""
    return kept_lock(engine, SYNC_LOCK, account, waiting)


def start_run(engine: sa.Engine, run_id: str, account: str, request_id: int | None, now: datetime) -> None:
    """Notes a run, once; whatever still runs for the account died, for the caller holds its lock."""
    with engine.begin() as connection:
        connection.execute(
            # A number of the identity is used up by each insert, also one in vain.
            sa.text(
                "insert into ref.account (account) select :account "
                "where not exists (select from ref.account where account = :account) on conflict do nothing"
            ),
            {"account": account},
        )
        connection.execute(
            sa.text(
                "update ops.sync_run set status = 'abandoned', finished_at = :now, error = :died "
                "where account = :account and status = 'running' and run_id <> :run_id"
            ),
            {"account": account, "run_id": run_id, "now": now, "died": DIED},
        )
        connection.execute(
            sa.text(
                "insert into ops.sync_run (run_id, account, request_id, started_at, status) "
                "values (:run_id, :account, :request_id, :now, 'running') on conflict do nothing"
            ),
            {"run_id": run_id, "account": account, "request_id": request_id, "now": now},
        )


def close_run(engine: sa.Engine, run_id: str, status: str, error: str, now: datetime) -> None:
    """Closes a run that did not close itself; one that did stays as it is."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "update ops.sync_run set status = :status, finished_at = :now, error = :error "
                "where run_id = :run_id and status = 'running'"
            ),
            {"run_id": run_id, "status": status, "error": message(error), "now": now},
        )


def note_problem(engine: sa.Engine, run_id: str, problem: str) -> None:
    """Something that a person should mend although the sync goes on, such as a refused mapping."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("update ops.sync_run set error = :problem where run_id = :run_id"),
            {"run_id": run_id, "problem": message(problem)},
        )


def count_requests(engine: sa.Engine, run_id: str, account: str, requests_made: int) -> None:
    """Adds to the HTTP requests of a run; one that is no sync counts none."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "update ops.sync_run set requests_made = requests_made + :requests_made "
                "where run_id = :run_id and account = :account"
            ),
            {"run_id": run_id, "account": account, "requests_made": requests_made},
        )


def succeed(connection: sa.Connection, run_id: str, account: str, as_of: datetime, rows: int, now: datetime) -> None:
    """Closes the run in the transaction that publishes it."""
    connection.execute(
        sa.text(
            "update ops.sync_run set status = 'succeeded', finished_at = :now, as_of = :as_of, rows_written = :rows, "
            # What was noted while it ran stays, such as a refused mapping; that it died, if it did not, does not.
            "error = case when status = 'running' then error end "
            "where run_id = :run_id and account = :account"
        ),
        {"run_id": run_id, "account": account, "as_of": as_of, "rows": rows, "now": now},
    )
    _redate_runs_of_the_future(connection, run_id, account, now)
    connection.execute(
        sa.text(
            "update ref.account set checked_at = :now where account = :account "
            "and exists (select from ops.sync_run where run_id = :run_id and account = :account)"
        ),
        {"account": account, "now": now, "run_id": run_id},
    )


def _redate_runs_of_the_future(connection: sa.Connection, run_id: str, account: str, now: datetime) -> None:
    """Puts runs that a wrong clock dated into the future before this one: each would be the last until then."""
    connection.execute(
        sa.text(
            "update ops.sync_run r set started_at = s.started_at - interval '1 second', "
            "finished_at = s.started_at - interval '1 second', as_of = case when r.as_of <= :now then r.as_of end "
            "from ops.sync_run s where s.run_id = :run_id and s.account = :account and r.account = s.account "
            "and r.run_id <> s.run_id and r.status <> 'running' and r.started_at > :wrong_from"
        ),
        {"run_id": run_id, "account": account, "now": now, "wrong_from": now + CLOCK_WRONG},
    )


def fail(engine: sa.Engine, run_id: str, account: str, error: Exception, sentence: str, now: datetime) -> str:
    """Closes the run, and says at the account what is wrong (`sentence`, of the error) and how old the costs are that
    stay; returns what it says.

    A run that is published is not failed by what comes after.
    """
    status, code = account_status(error), account_error_code(error)
    with engine.begin() as connection:
        shown = f"{message(sentence)}{_what_stays(connection, account)}"
        parameters = {"run_id": run_id, "account": account, "error": shown, "now": now, "status": status, "code": code}
        connection.execute(
            sa.text(
                "update ops.sync_run set status = 'failed', finished_at = :now, error = :error "
                "where run_id = :run_id and account = :account and status <> 'succeeded'"
            ),
            parameters,
        )
        connection.execute(
            sa.text(
                "update ref.account set status = :status, checked_at = :now, error = :error, error_code = :code "
                "where account = :account and not exists (select from ops.sync_run r "
                "where r.run_id = :run_id and r.account = :account and r.status = 'succeeded')"
            ),
            parameters,
        )
    return shown


def _what_stays(connection: sa.Connection, account: str) -> str:
    as_of = connection.execute(
        sa.text("select as_of from ref.account where account = :account"), {"account": account}
    ).scalar()
    return f"\nCosts stay as of {as_of:%Y-%m-%d %H:%M} UTC; nothing was lost." if as_of else ""


def account_status(error: Exception) -> str:
    """What an error means for the account: is its key wrong, is somebody out of reach, or neither."""
    if isinstance(error, InvalidKeyError):
        return "invalid_key"
    return "unreachable" if isinstance(error, TransientError) else "failed"


def account_error_code(error: Exception) -> str | None:
    """The code of the finding that an error is, where it has one of its own."""
    codes = {OtherAccountError: "other_account", AccountTwiceError: "account_twice", ClockError: "clock_off"}
    return codes.get(type(error))


def request_sync(connection: sa.Connection, account: str | None, since: date | None) -> int:
    """Asks the running deployment for a sync; the request's id."""
    statement = sa.text("select ops.request_sync(cast(:account as text), cast(:since as date))")
    return int(connection.execute(statement, {"account": account, "since": since}).scalar_one())
