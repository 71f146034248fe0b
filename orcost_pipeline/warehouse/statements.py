"""Statements that are kept in `.sql` files: a folder of the warehouse, a name, and the text is read once."""

from functools import cache
from importlib import resources

import sqlalchemy as sa


@cache
def statement(folder: str, name: str) -> sa.TextClause:
    """The statement of `<folder>/<name>.sql` below the warehouse."""
    path = resources.files("orcost_pipeline.warehouse") / folder / f"{name}.sql"
    return sa.text(path.read_text(encoding="utf-8"))
