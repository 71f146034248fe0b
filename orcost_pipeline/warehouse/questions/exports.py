"""The rows that `orcost export` writes, streamed: those of the wide relations, and those of FOCUS.

Rows come as they are read, so that a year of hours needs no more memory than a day; the connection is busy until they
were all taken.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import Rows, relation
from orcost_pipeline.warehouse.questions.relations import Column, relation_columns
from orcost_pipeline.warehouse.statements import statement
from orcost_pipeline.windows import Window, utc_day

ExportGrain = Literal["day", "hour"]
FocusVersion = Literal["1.2", "1.4"]

# What the view has of another version: 1.4 names who provides the service and who hosts it.
_OTHER_VERSIONS = {"1.2": ("HostProviderName", "ServiceProviderName"), "1.4": ("ProviderName", "PublisherName")}
# Rows that are fetched, and passed on, at once.
CHUNK = 10_000

Chunk = Sequence[Sequence[Any]]


class Export(NamedTuple):
    """The columns of a relation, with Postgres's names of their types, and its rows, some at a time."""

    columns: Sequence[Column]
    chunks: Iterator[Chunk]


def exported_spend(connection: sa.Connection, grain: ExportGrain, window: Window, company: str | None) -> Export:
    """A row of `marts.spend_daily` or `marts.spend_hourly` each, in the order of the grain; of one company, or of all.

    The window is one of whole UTC days, or of whole hours.
    """
    if grain == "hour":
        rows = _streamed(connection, "exported_hours", start=window.start, end=window.end, company=company)
        return Export(relation_columns(connection, "marts.spend_hourly"), rows)
    first, last = utc_day(window.start), utc_day(window.end)
    rows = _streamed(connection, "exported_days", first=first, last=last, company=company)
    return Export(relation_columns(connection, "marts.spend_daily"), rows)


def exported_focus(connection: sa.Connection, version: FocusVersion, window: Window) -> Export:
    """A row of FOCUS each, with the columns of a version, in the order of the grain.

    The window is one of whole UTC days.
    """
    columns = relation_columns(connection, "marts.focus_cost_and_usage")
    chosen = itemgetter(*(place for place, it in enumerate(columns) if it.name not in _OTHER_VERSIONS[version]))
    rows = _streamed(connection, "exported_focus", start=window.start, end=window.end)
    return Export(chosen(columns), ([chosen(row) for row in chunk] for chunk in rows))


def focus_differences(connection: sa.Connection, window: Window) -> Rows:
    """A row for each account and UTC day on which FOCUS bills another sum, in USD, than `marts.spend_daily` has."""
    return relation(connection, "focus_differences", start=window.start, end=window.end)


def _streamed(connection: sa.Connection, name: str, /, **parameters: object) -> Iterator[Chunk]:
    """The answer to a question, by a cursor of the server."""
    question = statement("questions", name).execution_options(stream_results=True)
    # As an option of the statement, `yield_per` would be passed over: it is text.
    return connection.execute(question, parameters).yield_per(CHUNK).partitions()
