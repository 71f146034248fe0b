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
from orcost_pipeline.warehouse.questions.relations import complete_to
from orcost_pipeline.warehouse.statements import change
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
        change(connection, "add_account", account=account)
        change(connection, "abandon_runs", account=account, run_id=run_id, now=now, died=DIED)
        change(connection, "start_run", account=account, run_id=run_id, request_id=request_id, now=now)


def close_run(engine: sa.Engine, run_id: str, status: str, error: str, now: datetime) -> None:
    """Closes a run that did not close itself; one that did stays as it is."""
    with engine.begin() as connection:
        change(connection, "close_run", run_id=run_id, status=status, error=message(error), now=now)


def note_problem(engine: sa.Engine, run_id: str, problem: str) -> None:
    """Something that a person should mend although the sync goes on, such as a refused mapping."""
    with engine.begin() as connection:
        change(connection, "note_problem", run_id=run_id, problem=message(problem))


def count_requests(engine: sa.Engine, run_id: str, account: str, requests_made: int) -> None:
    """Adds to the HTTP requests of a run; one that is no sync counts none."""
    with engine.begin() as connection:
        change(connection, "count_requests", run_id=run_id, account=account, requests_made=requests_made)


def succeed(connection: sa.Connection, run_id: str, account: str, as_of: datetime, rows: int, now: datetime) -> None:
    """Closes the run in the transaction that publishes it; `rows` is how many rows it wrote."""
    change(connection, "succeed_run", run_id=run_id, account=account, as_of=as_of, rows=rows, now=now)
    change(connection, "redate_runs", run_id=run_id, account=account, now=now, wrong_from=now + CLOCK_WRONG)
    change(connection, "check_account", run_id=run_id, account=account, now=now)


def fail(engine: sa.Engine, run_id: str, account: str, error: Exception, sentence: str, now: datetime) -> str:
    """Closes the run, and says at the account what is wrong (`sentence`, of the error) and how old the costs are that
    stay; returns what it says.

    A run that is published is not failed by what comes after.
    """
    status, code = account_status(error), account_error_code(error)
    with engine.begin() as connection:
        shown = f"{message(sentence)}{_what_stays(connection, account)}"
        change(connection, "fail_run", run_id=run_id, account=account, error=shown, now=now)
        change(
            connection, "fail_account", run_id=run_id, account=account, status=status, code=code, error=shown, now=now
        )
    return shown


def _what_stays(connection: sa.Connection, account: str) -> str:
    as_of = complete_to(connection).get(account)
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
    return int(change(connection, "request_sync", account=account, since=since).scalar_one())
