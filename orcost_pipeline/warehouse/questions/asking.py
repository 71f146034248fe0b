"""How a question's file becomes rows: as the relation it is, as typed rows, or as usage summed to a grain.

SQL is not put together from text. The one step that is composed, with SQLAlchemy Core, is a sum: its grain, chosen from
a closed set, and the measures, which `measures.py` alone names. The rows that are summed are a file's.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse.statements import statement

R = TypeVar("R")


class Rows(NamedTuple):
    """An answer: its columns, in order and even if it is empty, and its rows by column."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]


def ask(connection: sa.Connection, name: str, /, **parameters: object) -> sa.CursorResult[Any]:
    """The answer to the question of `<name>.sql`."""
    return connection.execute(statement("questions", name), parameters)


def relation(connection: sa.Connection, name: str, /, **parameters: object) -> Rows:
    """The answer as the relation that it is."""
    return as_relation(ask(connection, name, **parameters))


def as_relation(answer: sa.CursorResult[Any]) -> Rows:
    """All rows of a result, each by the names of its columns, which are kept for a result without rows."""
    return Rows(tuple(answer.keys()), [dict(row) for row in answer.mappings()])


def records(kind: Callable[..., R], answer: sa.CursorResult[Any]) -> list[R]:
    """Each row as a `kind`, whose fields are the columns; raises TypeError where they are others."""
    return [kind(**row._asdict()) for row in answer]


def usage(name: str, columns: Iterable[str]) -> sa.Subquery:
    """The rows of `<name>.sql`, to be summed: these columns and the measures."""
    return statement("questions", name).columns(*(sa.column(it) for it in (*columns, *MEASURES))).subquery("s")


def sums(rows: sa.Subquery, amounts: Iterable[str] = MEASURES) -> list[sa.Label[Any]]:
    """The sum of each measure, or of the amounts named, without the trailing zeros that shares bring in."""
    return [sa.func.trim_scale(sa.func.sum(rows.c[amount])).label(amount) for amount in amounts]
