"""A mapping that is kept in a table or view of the warehouse's database: its cells, as text."""

from typing import NamedTuple

import sqlalchemy as sa

_COLUMNS = """
select a.attname
from pg_attribute a
where a.attrelid = to_regclass(:name) and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""


class Table(NamedTuple):
    """The columns of a table, and its rows in no order; a cell is None where the database has none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def read_table(connection: sa.Connection, name: str) -> Table | None:
    """A table or view, named as in SQL; None where there is none. The database's own errors are the caller's."""
    columns = tuple(connection.execute(sa.text(_COLUMNS), {"name": name}).scalars())
    if not columns:
        return None
    quote = connection.dialect.identifier_preparer.quote_identifier
    cells = ", ".join(f"{quote(column)}::text" for column in columns)
    relation = connection.execute(sa.text("select to_regclass(:name)::text"), {"name": name}).scalar_one()
    rows = connection.exec_driver_sql(f"select {cells} from {relation}".replace("%", "%%"))
    return Table(columns, tuple(tuple(row) for row in rows))
