"""How rows get into Postgres, whatever they mean: COPY, and a merge by difference.

What stays out: which rows, and which of the stored ones they may replace (`publication/`). Identical data writes
nothing: rows are compared by anti-join before anything is inserted, updated or deleted.

The statements are made of the names of a table and its columns, for any table, so they are no `.sql` files.
"""

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple, cast

import psycopg
import sqlalchemy as sa

# From so many written rows on, a merge makes statistics of its target.
MANY_ROWS = 1_000


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
    collected = _columns(connection, touched) if touched else []
    if not connection.execute(sa.text(f"select exists (select from {staged})")).scalar_one():
        deletion = f"delete from {target} t where {scope}"
        return Merged(0 if scope is None else _delete(connection, deletion, touched, collected, parameters), 0)
    connection.execute(sa.text(f"create unique index on {staged} ({', '.join(keys)})"))
    connection.execute(sa.text(f"analyze {staged}"))
    columns = _columns(connection, staged)
    same_key = " and ".join(f"t.{key} = s.{key}" for key in keys)
    deleted = 0
    if scope is not None:
        deletion = f"delete from {target} t where {scope} and not exists (select from {staged} s where {same_key})"
        deleted = _delete(connection, deletion, touched, collected, parameters)
    written = _write(connection, target, staged, columns, keys, same_key)
    if written and touched:
        connection.execute(sa.text(f"insert into {touched} select distinct {', '.join(collected)} from different"))
    connection.execute(sa.text("drop table different"))
    if written > MANY_ROWS:
        # Autovacuum comes minutes later; the statements that follow need to know now how large the table is. Where
        # another transaction analyzes it, this one would wait for its end.
        connection.execute(sa.text(f"analyze (skip_locked) {target}"))
    return Merged(deleted, written)


def _delete(
    connection: sa.Connection,
    deletion: str,
    touched: str | None,
    collected: Sequence[str],
    parameters: dict[str, Any] | None,
) -> int:
    """Deletes rows, and keeps the columns `collected` of them in `touched`; returns how many."""
    if touched is None:
        return connection.execute(sa.text(deletion), parameters or {}).rowcount
    returned = ", ".join(f"t.{column}" for column in collected)
    statement = (
        f"with changed as ({deletion} returning {returned}), kept as (insert into {touched} select * from changed) "
        "select count(*) from changed"
    )
    return int(connection.execute(sa.text(statement), parameters or {}).scalar_one())


def _write(
    connection: sa.Connection, target: str, staged: str, columns: Sequence[str], keys: Sequence[str], same_key: str
) -> int:
    """Updates and inserts the rows that differ, which stay in the temporary table `different`; returns how many."""
    values = [column for column in columns if column not in keys]
    same = f"(({', '.join(f't.{v}' for v in values)}) is not distinct from ({', '.join(f's.{v}' for v in values)}))"
    different = connection.execute(
        sa.text(
            f"create temporary table different on commit drop as select s.*, t.{keys[0]} is not null as is_stored "
            f"from {staged} s left join {target} t on {same_key} where t.{keys[0]} is null or not {same}"
        )
    ).rowcount
    if not different:
        return 0
    stored = connection.execute(sa.text("select count(*) from different where is_stored")).scalar_one()
    if stored:
        connection.execute(sa.text("analyze different"))
        changes = ", ".join(f"{value} = s.{value}" for value in values)
        update = f"update {target} t set {changes} from different s where s.is_stored and {same_key}"
        connection.execute(sa.text(update))
    if stored < different:
        names = ", ".join(columns)
        insertion = f"insert into {target} ({names}) select {names} from different where not is_stored"
        connection.execute(sa.text(insertion))
    return different


def _columns(connection: sa.Connection, table: str) -> Sequence[str]:
    return list(connection.execute(sa.text(f"select * from {table} limit 0")).keys())


def as_json(value: Any) -> str:
    """JSON for a jsonb column; amounts keep every digit."""
    return json.dumps(value, default=lambda other: str(other) if isinstance(other, Decimal) else repr(other))
