"""Statements that are kept in `.sql` files: a folder of the warehouse, a name, and the text is read once.

Python has SQL where it is made of names that a caller gives, and single lines; everything else is a file.
"""

from functools import cache
from importlib import resources
from typing import Any

import sqlalchemy as sa


@cache
def statement(folder: str, name: str) -> sa.TextClause:
    """The statement of `<folder>/<name>.sql` below the warehouse."""
    path = resources.files("orcost_pipeline.warehouse") / folder / f"{name}.sql"
    return sa.text(path.read_text(encoding="utf-8"))


def change(connection: sa.Connection, name: str, /, **parameters: object) -> sa.CursorResult[Any]:
    """Executes `changes/<name>.sql`: what is written outside a publication."""
    return connection.execute(statement("changes", name), parameters)
