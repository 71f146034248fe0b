"""Failures of the database, named by their consequence: what happened, and what the reader does next.

What belongs here: from the driver's error to ours, without a password, a statement or a value of a row.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy.exc

from orcost_pipeline.errors import OrcostError, PermanentError, TransientError
from orcost_pipeline.text import short

# Characters of what the server says: it repeats statements and values.
LONGEST_REASON = 300


class DatabaseUnavailableError(TransientError):
    """The database could not do it now; it may in some seconds."""


class LockedError(DatabaseUnavailableError):
    """Another session held a lock for longer than is waited for."""


# (SQLSTATEs, or words of the server where it gives no state; consequence; what happened and what to do)
_FAILURES: tuple[tuple[str, type[OrcostError], str], ...] = (
    (
        "^53100|could not extend file|no space left",
        PermanentError,
        "The database's disk is full: {reason}. Make room on it, then try again.",
    ),
    (
        "^53300|too many clients|too many connections|connection slots",
        DatabaseUnavailableError,
        "The database has no connection to spare: {reason}. End sessions or raise max_connections, then try again.",
    ),
    (
        '^3D000|^57P04|database ".*" does not exist',
        PermanentError,
        "The database is not there: {reason}. Create it, or name the right one in ORCOST_DATABASE_URL.",
    ),
    (
        r"^28|authentication failed|no password supplied|pg_hba\.conf|role .* does not exist|not permitted to log in",
        PermanentError,
        "The database refused the user: {reason}. Put the right user and password into ORCOST_DATABASE_URL.",
    ),
    (
        "^25006",
        PermanentError,
        "The database takes no writes: {reason}. "
        "Name its primary server in ORCOST_DATABASE_URL, or lift default_transaction_read_only.",
    ),
    (
        r"^42501|permission denied for database",
        PermanentError,
        "The database's user lacks a right: {reason}. Grant it, or name the tables' owner in ORCOST_DATABASE_URL.",
    ),
    # What our own SQL raises is a sentence.
    ("^P0001", PermanentError, "{reason}"),
    (
        "^55P03",
        LockedError,
        "Another session of the database holds a lock: {reason}. End that session if it hangs, then try again.",
    ),
    (
        "^40",
        DatabaseUnavailableError,
        "Another session of the database was in the way: {reason}. Try again.",
    ),
    (
        "^57014",
        DatabaseUnavailableError,
        "The database cancelled a statement: {reason}. Raise statement_timeout where it is set, then try again.",
    ),
    (
        "^57P03|starting up|shutting down|in recovery|not yet accepting",
        DatabaseUnavailableError,
        "The database is not ready: {reason}. Try again in a moment.",
    ),
    (
        "^08|^25P03|^57P|connection is (closed|lost)|closed the connection|closed unexpectedly|terminating connection|"
        "reset by peer|broken pipe|consuming input failed|flushing failed",
        DatabaseUnavailableError,
        "The connection to the database was lost: {reason}. Try again; if it is lost again, the server's log says why.",
    ),
    (
        "^5[348]|^XX",
        TransientError,
        "The database failed: {reason}. Mend what the server's log names, then try again.",
    ),
)
_NO_ANSWER = "The database does not answer: {reason}. Check ORCOST_DATABASE_URL and the server."


@contextmanager
def database_errors() -> Iterator[None]:
    """Failures of the database, named by their consequence, without its password.

    A statement or a row that is wrong is no failure of the database: its error stays what it is.
    """
    try:
        yield
    except OrcostError:
        raise
    except Exception as error:
        source = _driver_error(error)
        failure = failure_named(type(source).__name__, str(source))
        if failure is None:
            raise
        # From the driver's error: SQLAlchemy's holds the statement and its data.
        raise failure from source


def _driver_error(error: BaseException | None) -> BaseException | None:
    """What the driver raised, where it is this error or caused it."""
    while error is not None and not isinstance(error, psycopg.Error):
        if isinstance(error, sqlalchemy.exc.DBAPIError):
            return error.orig
        error = error.__cause__
    return error


def failure_named(kind: str, message: str) -> OrcostError | None:
    """The failure that a driver's error means, by the error's class, which is called as its SQLSTATE in all drivers.

    Where a server was not reached, or refused the session, there is no SQLSTATE, but its words.
    """
    state = getattr(getattr(psycopg.errors, kind, None), "sqlstate", None)
    if state is None and kind not in ("OperationalError", "ConnectionTimeout", "InterfaceError"):
        return None
    reason = _reason(message)
    # What begins with ^ is a SQLSTATE; words are searched where there is none, or one that says nothing.
    subject = state if state and not state.startswith("XX") else f"{state or 'no state'} {reason}"
    for pattern, consequence, sentence in _FAILURES:
        if re.search(pattern, subject, re.IGNORECASE):
            return consequence(sentence.format(reason=reason))
    return DatabaseUnavailableError(_NO_ANSWER.format(reason=reason)) if state is None else None


def _reason(message: str) -> str:
    """The line that says most; of several servers that were tried, what the last one said."""
    lines = message.strip().splitlines() or ["no answer"]
    line = lines[-1] if lines[0].endswith(":") else lines[0]
    return short(line.rpartition("FATAL:")[2].strip().removeprefix("connection failed: ").rstrip("."), LONGEST_REASON)
