"""Engine, failures named, COPY → merge by difference, advisory locks.

What belongs here: how rows get into Postgres, whatever they mean. What stays out: which rows (`publication.py`).
Identical data writes nothing: rows are compared by anti-join before anything is inserted, updated or deleted.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple, cast

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url

from orcost_pipeline.errors import OrcostError, PermanentError, TransientError
from orcost_pipeline.text import short
from orcost_pipeline.warehouse.statements import statement

MANY_ROWS = 1_000
# Characters of what the server says: it repeats statements and values.
LONGEST_TOLD = 300
# Advisory locks are pairs (class, number): one class for each thing that is locked.
MIGRATION_LOCK, MAPPING_LOCK, SYNC_LOCK, PUBLICATION_LOCK, KEY_OWNER_LOCK = 7_301, 7_302, 7_303, 7_304, 7_305
DEPLOYMENT_LOCK = 7_306

# What our statements rely on, whatever role, database and server have set. Local to each transaction: a pooler in
# transaction mode refuses options at the start of a session, and loses what a session sets (D63).
SESSION = {
    "client_encoding": "'UTF8'",
    "datestyle": "'ISO, MDY'",
    "intervalstyle": "'postgres'",
    "timezone": "'UTC'",
    "standard_conforming_strings": "on",
    "search_path": "''",
}
_TRANSACTION = {
    **SESSION,
    "client_min_messages": "'warning'",
    # What another client of the pooler may have left behind in the session goes back to what the role has.
    "statement_timeout": "default",
    # Whoever locks our tables for longer is named, instead of being waited for in silence.
    "lock_timeout": "'30s'",
    # Without these, a machine that vanished would hold its locks for two hours, the default of TCP.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


def set_local(settings: Mapping[str, str]) -> str:
    """The statements that make such settings, name → SQL, hold until the transaction ends."""
    return "".join(f"set local {name} to {value}; " for name, value in settings.items())


_PINS = set_local(_TRANSACTION)


_ENCODED = "In a user's name or password, write @ as %40, : as %3A, / as %2F, # as %23 and % as %25."


class DatabaseUnavailableError(TransientError):
    """The database could not do it now; it may in some seconds."""


class LockedError(DatabaseUnavailableError):
    """Another session held a lock for longer than is waited for."""


# (SQLSTATEs, or words of the server where it gives no state; consequence; what happened and what to do)
_FAILURES: tuple[tuple[str, type[OrcostError], str], ...] = (
    (
        "^53100|could not extend file|no space left",
        PermanentError,
        "The database's disk is full: {told}. Make room on it, then try again.",
    ),
    (
        "^53300|too many clients|too many connections|connection slots",
        DatabaseUnavailableError,
        "The database has no connection to spare: {told}. End sessions or raise max_connections, then try again.",
    ),
    (
        '^3D000|^57P04|database ".*" does not exist',
        PermanentError,
        "The database is not there: {told}. Create it, or name the right one in ORCOST_DATABASE_URL.",
    ),
    (
        r"^28|authentication failed|no password supplied|pg_hba\.conf|role .* does not exist|not permitted to log in",
        PermanentError,
        "The database refused the user: {told}. Put the right user and password into ORCOST_DATABASE_URL.",
    ),
    (
        "^25006",
        PermanentError,
        "The database takes no writes: {told}. "
        "Name its primary server in ORCOST_DATABASE_URL, or lift default_transaction_read_only.",
    ),
    (
        "^42501",
        PermanentError,
        "The database's user lacks a right: {told}. Grant it, or name the tables' owner in ORCOST_DATABASE_URL.",
    ),
    # What our own SQL raises is a sentence.
    ("^P0001", PermanentError, "{told}"),
    (
        "^55P03",
        LockedError,
        "Another session of the database holds a lock: {told}. End that session if it hangs, then try again.",
    ),
    (
        "^40",
        DatabaseUnavailableError,
        "Another session of the database was in the way: {told}. Try again.",
    ),
    (
        "^57014",
        DatabaseUnavailableError,
        "The database cancelled a statement: {told}. Raise statement_timeout where it is set, then try again.",
    ),
    (
        "^57P03|starting up|shutting down|in recovery|not yet accepting",
        DatabaseUnavailableError,
        "The database is not ready: {told}. Try again in a moment.",
    ),
    (
        "^08|^25P03|^57P|connection is (closed|lost)|closed the connection|closed unexpectedly|terminating connection|"
        "reset by peer|broken pipe|consuming input failed|flushing failed",
        DatabaseUnavailableError,
        "The connection to the database was lost: {told}. Try again; if it is lost again, the server's log says why.",
    ),
    (
        "^5[348]|^XX",
        TransientError,
        "The database failed: {told}. Mend what the server's log names, then try again.",
    ),
    (
        "^ ",
        DatabaseUnavailableError,
        "The database does not answer: {told}. Check ORCOST_DATABASE_URL and the server.",
    ),
)


def warehouse_url(url: str) -> URL:
    """The user's URL for SQLAlchemy with psycopg 3; raises PermanentError for anything but Postgres."""
    try:
        parsed = make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: of a port that is none, with what it is
        raise PermanentError(
            f"ORCOST_DATABASE_URL is not a URL; it looks like postgresql://user@host/database. {_ENCODED}"
        ) from None
    # Cut at the wrong place, what is taken for a host or a database may be a part of the password.
    if url.count("@") > 1 or ("@" in url and parsed.username is None):
        raise PermanentError(f"ORCOST_DATABASE_URL cannot be told apart: it has an @ too many. {_ENCODED}")
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise PermanentError("ORCOST_DATABASE_URL must start with postgresql://; other databases are not supported.")
    return parsed.set(drivername="postgresql+psycopg")


def connect(url: str) -> sa.Engine:
    """An engine whose transactions have the settings that our statements rely on; nothing is connected yet."""
    # Prepared statements belong to a session, which a pooler gives to somebody else after each transaction.
    options = {"client_encoding": "utf8", "connect_timeout": 10, "prepare_threshold": None}
    engine = sa.create_engine(
        warehouse_url(url), connect_args=options, isolation_level="READ COMMITTED", pool_pre_ping=True, pool_size=3
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(_PINS))
    return engine


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
    told = _told(message)
    subject = state if state and not state.startswith("XX") else f"{state or ''} {told}"
    for pattern, consequence, sentence in _FAILURES:
        if re.search(pattern, subject, re.IGNORECASE):
            return consequence(sentence.format(told=told))
    return None


def _told(message: str) -> str:
    """The line that says most; of several servers that were tried, what the last one said."""
    lines = message.strip().splitlines() or ["no answer"]
    line = lines[-1] if lines[0].endswith(":") else lines[0]
    return short(line.rpartition("FATAL:")[2].strip().removeprefix("connection failed: ").rstrip("."), LONGEST_TOLD)


def sql(name: str) -> sa.TextClause:
    """A statement of the `sql/` folder, by file name."""
    return statement("sql", name)


def copy_rows(connection: sa.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Rows into a table by COPY; returns how many."""
    driver = cast(psycopg.Connection, connection.connection.driver_connection)
    statement = cast(LiteralString, f"copy {table} ({', '.join(columns)}) from stdin")
    count = 0
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
            count += 1
    return count


class Merged(NamedTuple):
    """Rows that a merge removed, and rows that it inserted or updated."""

    deleted: int
    written: int

    @property
    def total(self) -> int:
        return self.deleted + self.written


def merge(
    connection: sa.Connection,
    target: str,
    staged: str,
    keys: Sequence[str],
    *,
    scope: str | None,
    parameters: dict[str, Any] | None = None,
    touched: str | None = None,
) -> Merged:
    """Makes the rows of `target` inside `scope` (SQL on alias t) those of `staged`, writing only what differs.

    Without a scope nothing is deleted. `touched` names a temporary table whose columns, taken from every row that is
    deleted or written, are collected there. A duplicate key in `staged` raises.

    What differs is found before anything is written: the plan of a statement that read the table it fills would stand
    on what the table was, perhaps empty, while the table grows under it. Rows that are stored are updated rather than
    inserted with a conflict, which would use up a number of the target's identity each time.
    """
    connection.execute(sa.text(f"create unique index on {staged} ({', '.join(keys)})"))
    connection.execute(sa.text(f"analyze {staged}"))
    columns = [name for name, *_ in _columns(connection, staged)]
    values = [column for column in columns if column not in keys]
    same_key = " and ".join(f"t.{key} = s.{key}" for key in keys)
    deleted = 0
    if scope is not None:
        deletion = f"delete from {target} t where {scope} and not exists (select from {staged} s where {same_key})"
        deleted = _collect(connection, deletion, "t", touched, parameters)
    same = f"(({', '.join(f't.{v}' for v in values)}) is not distinct from ({', '.join(f's.{v}' for v in values)}))"
    different = connection.execute(
        sa.text(
            f"create temporary table different on commit drop as select s.*, t.{keys[0]} is not null as is_stored "
            f"from {staged} s left join {target} t on {same_key} where t.{keys[0]} is null or not {same}"
        )
    ).rowcount
    written = 0
    if different:
        connection.execute(sa.text("analyze different"))
        changes = ", ".join(f"{value} = s.{value}" for value in values)
        update = f"update {target} t set {changes} from different s where s.is_stored and {same_key}"
        names = ", ".join(columns)
        insertion = f"insert into {target} as t ({names}) select {names} from different where not is_stored"
        written = sum(_collect(connection, statement, "t", touched, None) for statement in (update, insertion))
    connection.execute(sa.text("drop table different"))
    if written > MANY_ROWS:
        # Autovacuum comes minutes later; the statements that follow need to know now how large the table is. Where
        # another transaction analyzes it, this one would wait for its end.
        connection.execute(sa.text(f"analyze (skip_locked) {target}"))
    return Merged(deleted, written)


def _collect(
    connection: sa.Connection, statement: str, alias: str, touched: str | None, parameters: dict[str, Any] | None
) -> int:
    if touched is None:
        return connection.execute(sa.text(statement), parameters or {}).rowcount
    names = [name for name, *_ in _columns(connection, touched)]
    returned = ", ".join(f"{alias}.{name}" for name in names)
    collected = (
        f"with changed as ({statement} returning {returned}), kept as (insert into {touched} select * from changed) "
        "select count(*) from changed"
    )
    return int(connection.execute(sa.text(collected), parameters or {}).scalar_one())


def _columns(connection: sa.Connection, table: str) -> Sequence[Any]:
    return connection.execute(
        sa.text("select attname from pg_attribute where attrelid = to_regclass(:t) and attnum > 0 order by attnum"),
        {"t": table},
    ).all()


_TAKE = sa.text("select pg_try_advisory_xact_lock(:kind, hashtext(:name))")
# A transaction that only holds a lock is idle for as long as a sync takes. Postgres 17 has the second of these.
_PATIENT = sa.text(
    "select set_config(name, '0', true) from pg_settings "
    "where name in ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_ALIVE = sa.text("select 1")


def take_lock(connection: sa.Connection, kind: int, name: str) -> None:
    """Takes an advisory lock for the transaction that it begins; waits for whoever has it.

    Polls instead of blocking, so that an interrupt is heard at once.
    """
    while not connection.execute(_TAKE, {"kind": kind, "name": name}).scalar_one():
        connection.rollback()
        time.sleep(0.2)


@contextmanager
def kept_lock(
    engine: sa.Engine,
    kind: int,
    name: str,
    waiting: Callable[[], None] = lambda: None,
    alive: sa.Executable = _ALIVE,
) -> Iterator[Callable[[], None]]:
    """Holds an advisory lock whatever becomes of its session; waits for whoever has it, calling `waiting` once.

    An OrcostError from `waiting` ends the wait. Where somebody else took the lock while its session was lost, that
    error is raised by calling what is yielded. `alive` is the statement that keeps the session; the server shows it.
    """
    keeper = _Keeper(engine, {"kind": kind, "name": name}, waiting, alive)
    keeper.start()
    try:
        keeper.held.result()
        yield keeper.check
    finally:
        keeper.is_over.set()
        keeper.join(5)


class _Keeper(threading.Thread):
    """Holds an advisory lock until `is_over`; where its session is lost, in another one as soon as there is one.

    The lock is that of a transaction left open: a pooler in transaction mode lets others use a session between two. Its
    snapshots end with each statement, so that it holds back no vacuum.
    """

    def __init__(
        self, engine: sa.Engine, lock: dict[str, Any], waiting: Callable[[], None], alive: sa.Executable
    ) -> None:
        super().__init__(daemon=True)
        self.held: Future[None] = Future()
        self.is_over = threading.Event()
        self._engine, self._lock, self._waiting, self._alive = engine, lock, waiting, alive
        self._refusal: OrcostError | None = None

    def check(self) -> None:
        """Raises what ended the wait for the lock after its session was lost."""
        if self._refusal is not None:
            raise self._refusal

    def run(self) -> None:
        while not self.is_over.is_set():
            try:
                with self._engine.connect() as session:
                    # Not for the pool: whatever happens, the lock ends with the session.
                    session.detach()
                    self._hold(session)
            except Exception as error:
                if not self.held.done():
                    self.held.set_exception(error)
                    return
                if isinstance(error, OrcostError):
                    self._refusal = error
                    return
                self.is_over.wait(1)

    def _hold(self, session: sa.Connection) -> None:
        is_told = False
        while not session.execute(_TAKE, self._lock).scalar_one():
            session.rollback()
            if not is_told:
                self._waiting()
                is_told = True
            if self.is_over.wait(0.2):
                return
        session.execute(_PATIENT)
        # From the first moment on the server shows who holds it.
        session.execute(self._alive)
        if not self.held.done():
            self.held.set_result(None)
        while not self.is_over.wait(1):
            session.execute(self._alive)


def lock_holders(connection: sa.Connection, wanted: Collection[str] = ()) -> str:
    """The sessions that keep everybody from relations of the warehouse, as a sentence; "" where there are none.

    Of the relations that are wanted for this session alone, such as views to replace, every session that uses one.
    """
    rows = connection.execute(
        sa.text(
            "select distinct a.pid, a.usename, nullif(a.application_name, '') as program, "
            "to_char(a.xact_start, 'YYYY-MM-DD HH24:MI') as since, min(l.relation::regclass::text) as relation "
            "from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace "
            "join pg_stat_activity a on a.pid = l.pid where l.granted "
            "and (l.mode = 'AccessExclusiveLock' or n.nspname || '.' || c.relname = any(:wanted)) "
            "and l.database = (select oid from pg_database where datname = current_database()) "
            "and n.nspname in ('raw', 'ref', 'core', 'marts', 'ops') and l.pid <> pg_backend_pid() "
            "group by 1, 2, 3, 4 order by 1"
        ),
        {"wanted": list(wanted)},
    ).all()
    told = (
        f"{row.relation} by session {row.pid} of user {row.usename}"
        f"{f' ({row.program})' if row.program else ''}{f' since {row.since} UTC' if row.since else ''}"
        for row in rows
    )
    return f"Locked: {'; '.join(told)}." if rows else ""


def as_json(value: Any) -> str:
    """JSON for a jsonb column; amounts keep every digit."""
    return json.dumps(value, default=lambda other: str(other) if isinstance(other, Decimal) else repr(other))
