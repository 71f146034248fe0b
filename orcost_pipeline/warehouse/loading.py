"""How rows get into Postgres, whatever they mean: COPY, and a merge by difference.

What stays out: which rows, and which of the stored ones they may replace (`publication/`). Identical data writes
nothing: rows are compared before any is inserted, updated or deleted.

The statements are made of the names of a table and its columns, for any table, so they are no `.sql` files.
"""

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple, cast

import psycopg
import sqlalchemy as sa

# More staged rows than this are merged with an index.
FEW_ROWS = 100
# From this number of written rows on, the statistics of a table are renewed.
MANY_ROWS = 1_000


def copy_rows(connection: sa.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Writes rows to a table by COPY; returns their number."""
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


class _Found(NamedTuple):
    """Facts gathered before a merge writes; of many rows, only the first are counted and searched for duplicates.

    stored_rows: of the target, by its statistics. columns: of the staged rows. collected: of `touched`.
    """

    staged_rows: int
    has_duplicates: bool
    is_filled: bool
    stored_rows: float
    columns: Sequence[str]
    collected: Sequence[str]


_LOOK = """
with first_rows as (select {keys} from {staged} limit {limit})
select (select count(*) from first_rows), exists (select from first_rows group by {keys} having count(*) > 1),
    exists (select from {target}), (select reltuples from pg_class where oid = :target ::regclass),
    array(select attname::text from pg_attribute where attrelid = :staged ::regclass and attnum > 0),
    array(select attname::text from pg_attribute where attrelid = :touched ::regclass and attnum > 0)
"""


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
    deleted or written, are collected there. A duplicate key in `staged` raises IntegrityError.

    An empty target takes the rows as they are, and its primary key refuses duplicates. Rows that are stored are updated
    rather than inserted with a conflict, which would use up a number of the target's identity each time.
    """
    names = ", ".join(keys)
    look = _LOOK.format(keys=names, staged=staged, limit=FEW_ROWS + 1, target=target)
    found = _Found(*connection.execute(sa.text(look), {"target": target, "staged": staged, "touched": touched}).one())
    if not found.is_filled:
        merged = Merged(0, _fill(connection, target, staged, found, touched) if found.staged_rows else 0)
    elif not found.staged_rows and scope is None:
        merged = Merged(0, 0)
    else:
        if found.staged_rows > FEW_ROWS or found.has_duplicates:
            # The index refuses duplicates, and its error names one.
            connection.execute(sa.text(f"create unique index on {staged} ({names})"))
            connection.execute(sa.text(f"analyze {staged} ({names})"))
        statement = _replacement(target, staged, keys, found, scope, touched)
        merged = Merged(*connection.execute(sa.text(statement), parameters or {}).one())
    stored_rows = found.stored_rows if found.is_filled else 0
    if merged.written > max(MANY_ROWS, stored_rows / 10):
        analyze(connection, target)
    return merged


def analyze(connection: sa.Connection, table: str) -> None:
    """Renews the statistics of a table that grew: autovacuum comes minutes later, and the statements that follow depend
    on its size. Skipped while another transaction does so, because this one would wait for its end (D69)."""
    connection.execute(sa.text(f"analyze (skip_locked) {table}"))


def _fill(connection: sa.Connection, target: str, staged: str, found: _Found, touched: str | None) -> int:
    """Inserts all rows; returns how many."""
    names = ", ".join(found.columns)
    written = connection.execute(sa.text(f"insert into {target} ({names}) select {names} from {staged}")).rowcount
    if touched:
        collected = ", ".join(found.collected)
        connection.execute(sa.text(f"insert into {touched} ({collected}) select distinct {collected} from {staged}"))
    return written


def _replacement(
    target: str, staged: str, keys: Sequence[str], found: _Found, scope: str | None, touched: str | None
) -> str:
    """A statement that deletes, updates and inserts what differs; its row is that of `Merged`.

    `different` is read to its end before any of it is written: a plan that reads the table it fills stands on what the
    table was, perhaps nearly empty, while it grows (D67).
    """
    columns, collected = ", ".join(found.columns), ", ".join(found.collected)
    same_key = " and ".join(f"t.{key} = s.{key}" for key in keys)
    parts: dict[str, str] = {}
    if scope is not None:
        missing = f"not exists (select from {staged} s where {same_key})" if found.staged_rows else "true"
        parts["deleted"] = f"delete from {target} t where {scope} and {missing} returning t.*"
    if found.staged_rows:
        values = [column for column in found.columns if column not in keys]
        stored, given = (", ".join(f"{alias}.{value}" for value in values) for alias in "ts")
        changes = ", ".join(f"{value} = s.{value}" for value in values)
        parts["different"] = (
            f"select s.*, t.{keys[0]} is not null as is_stored from {staged} s left join {target} t on {same_key} "
            f"where t.{keys[0]} is null or ({stored}) is distinct from ({given})"
        )
        parts["updated"] = f"update {target} t set {changes} from different s where s.is_stored and {same_key}"
        parts["inserted"] = f"insert into {target} ({columns}) select {columns} from different where not is_stored"
    changed = [name for name in ("deleted", "different") if name in parts]
    if touched:
        rows = " union all ".join(f"select {collected} from {name}" for name in changed)
        parts["kept"] = f"insert into {touched} ({collected}) select distinct {collected} from ({rows}) rows"
    counts = [f"(select count(*) from {name})" if name in parts else "0" for name in ("deleted", "different")]
    return f"with {', '.join(f'{name} as ({part})' for name, part in parts.items())} select {', '.join(counts)}"


def as_json(value: Any) -> str:
    """JSON for a jsonb column; amounts keep every digit."""
    return json.dumps(value, default=lambda other: str(other) if isinstance(other, Decimal) else repr(other))
