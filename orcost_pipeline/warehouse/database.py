"""Engine, COPY → merge by difference, advisory locks.

What belongs here: how rows get into Postgres, whatever they mean. What stays out: which rows (`publication.py`).
Identical data writes nothing: rows are compared by anti-join before anything is inserted, updated or deleted.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from importlib import resources
from typing import Any, LiteralString, NamedTuple, cast

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url

from orcost_pipeline.errors import PermanentError, TransientError

MANY_ROWS = 1_000
# Advisory locks are pairs (class, number): one class for each thing that is locked.
MIGRATION_LOCK, MAPPING_LOCK, SYNC_LOCK, PUBLICATION_LOCK = 7_301, 7_302, 7_303, 7_304


def warehouse_url(url: str) -> URL:
    """The user's URL for SQLAlchemy with psycopg 3; raises PermanentError for anything but Postgres."""
    try:
        parsed = make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise PermanentError(
            "ORCOST_DATABASE_URL is not a URL; it looks like postgresql://user@host/database."
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise PermanentError("ORCOST_DATABASE_URL must start with postgresql://; other databases are not supported.")
    return parsed.set(drivername="postgresql+psycopg")


def connect(url: str) -> sa.Engine:
    """An engine whose sessions speak UTC and UTF-8; nothing is connected yet."""
    options = {"options": "-c timezone=UTC -c client_min_messages=warning", "connect_timeout": 10}
    parsed = warehouse_url(url)
    if theirs := parsed.query.get("options"):
        options["options"] = f"{theirs} {options['options']}"
    return sa.create_engine(parsed, connect_args=options, pool_pre_ping=True, pool_size=3)


@contextmanager
def database_errors() -> Iterator[None]:
    """Failures of the database, named by their consequence, without its password."""
    try:
        yield
    except sqlalchemy.exc.OperationalError as error:
        told = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
        raise TransientError(
            f"The database cannot be used: {told}. Check ORCOST_DATABASE_URL and the server."
        ) from None


def sql(name: str) -> sa.TextClause:
    """A statement of the `sql/` folder, by file name."""
    return sa.text((resources.files("orcost_pipeline.warehouse") / "sql" / f"{name}.sql").read_text(encoding="utf-8"))


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
    same = f"({', '.join(f't.{v}' for v in values)}) is not distinct from ({', '.join(f's.{v}' for v in values)})"
    update = ", ".join(f"{value} = excluded.{value}" for value in values)
    insertion = (
        f"insert into {target} as t ({', '.join(columns)}) "
        f"select {', '.join(f's.{column}' for column in columns)} from {staged} s "
        f"where not exists (select from {target} t where {same_key} and {same}) "
        f"on conflict ({', '.join(keys)}) do update set {update}"
    )
    written = _collect(connection, insertion, "t", touched, None)
    if written > MANY_ROWS:
        # Autovacuum comes minutes later; the statements that follow need to know now how large the table is.
        connection.execute(sa.text(f"analyze {target}"))
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


@contextmanager
def lock(connection: sa.Connection, kind: int, name: str, waiting: Any = None) -> Iterator[None]:
    """Holds a session's advisory lock; waits for whoever has it, telling `waiting` once.

    Polls instead of blocking, so that an interrupt is heard at once.
    """
    parameters = {"kind": kind, "name": name}
    attempt = sa.text("select pg_try_advisory_lock(:kind, hashtext(:name))")
    is_told = False
    while not connection.execute(attempt, parameters).scalar_one():
        connection.commit()
        if waiting and not is_told:
            waiting()
            is_told = True
        time.sleep(0.2)
    connection.commit()
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(sa.text("select pg_advisory_unlock(:kind, hashtext(:name))"), parameters)
            connection.commit()


def as_json(value: Any) -> str:
    """JSON for a jsonb column; amounts keep every digit."""
    return json.dumps(value, default=lambda other: str(other) if isinstance(other, Decimal) else repr(other))
