"""What people keep in a table or view of the warehouse's database instead of a file: its cells, as text.

What the owner of a view puts into it runs as the user who reads it. So it is read in a transaction that can write
nothing, for a limited time, in a session that is closed afterwards, and never by a superuser (D65).
"""

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.warehouse.questions.asking import ask

READ_WITHIN = 20  # seconds
MOST_ROWS = 200_000
_TIMEOUTS = ("57014", "25P04")  # statement, transaction

# A function may ignore that its statement is cancelled, but not that its transaction is ended, since Postgres 17.
_LIMITED = ("statement_timeout", "transaction_timeout")
_LIMITS = "select set_config(name, :within, true) from pg_settings where name = any(:limited)"


class Table(NamedTuple):
    """The columns of a table, and its rows in no order; a cell is None where the database has none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


class UnreadableTableError(Exception):
    """Why a table is not read, and what helps."""

    def __init__(self, problem: str, todo: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.todo = todo


def read_table(
    connection: sa.Connection, name: str, *, within: int = READ_WITHIN, most_rows: int = MOST_ROWS
) -> Table | None:
    """A table or view, named as in SQL; None where there is none. The connection is of no other use afterwards.

    within: seconds that it may take; most_rows: a larger table is refused.
    Raises UnreadableTableError; the database's own errors are the caller's.
    """
    connection.detach()
    connection.exec_driver_sql("set transaction read only; set local search_path to public")
    connection.execute(sa.text(_LIMITS), {"within": f"{within}s", "limited": list(_LIMITED)})
    try:
        relation = _relation(connection, name)
        return Table(tuple(relation.columns), _rows(connection, relation, most_rows)) if relation else None
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _TIMEOUTS:
            raise
        problem = f"Table {name} was not read within {within} seconds"
        raise UnreadableTableError(problem, "See what takes so long in it, or which session has it locked") from None


def _relation(connection: sa.Connection, name: str) -> sa.Row[Any] | None:
    """What is called so; raises UnreadableTableError where its owner's functions would run as a superuser."""
    relation = ask(connection, "source_relation", name=name).one_or_none()
    if relation and relation.is_superuser and not relation.is_foreign_code:
        # So that its owner cannot put a view in its place between the look and the reading.
        _execute(connection, f"lock table {relation.name} in access share mode")
        relation = ask(connection, "source_relation", name=name).one_or_none()
    if relation and relation.is_superuser and relation.is_foreign_code:
        raise UnreadableTableError(
            f"{name} belongs to {relation.owner}, whose functions would run in it as a superuser",
            "Name a user in ORCOST_DATABASE_URL who is none, or a table of built-in types instead of a view",
        )
    return relation


def _rows(connection: sa.Connection, relation: sa.Row[Any], most_rows: int) -> tuple[tuple[str | None, ...], ...]:
    quote = connection.dialect.identifier_preparer.quote_identifier
    cells = ", ".join(f"{quote(column)}::text" for column in relation.columns)
    rows = _execute(connection, f"select {cells} from {relation.name} limit {most_rows + 1}").all()
    if len(rows) > most_rows:
        problem = f"Table {relation.name} has more than {most_rows:,} rows"
        raise UnreadableTableError(problem, "Leave out what is not needed")
    return tuple(tuple(row) for row in rows)


def _execute(connection: sa.Connection, statement: str) -> sa.CursorResult[Any]:
    return connection.exec_driver_sql(statement.replace("%", "%%"))
