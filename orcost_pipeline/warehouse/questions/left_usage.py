"""What interrupted syncs have read of usage by hour, for the next one to go on from."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES, Measures
from orcost_pipeline.warehouse.questions.asking import ask, records
from orcost_pipeline.windows import Window


class LeftQuestion(NamedTuple):
    """A question about a key (None: the account) and span of hours, and its outcome."""

    key_hash: str | None
    start_at: datetime
    end_at: datetime
    outcome: str


class LeftSpend(NamedTuple):
    """Spend in USD of an hour that no key explains, by the name that analytics show."""

    hour: datetime
    name: str
    credits_usd: Decimal
    byok_usd: Decimal


def left_windows(
    connection: sa.Connection, account: str, extraction_id: str, since: datetime
) -> list[tuple[str, Window]]:
    """Windows whose hours were read of every key by extractions since then that used the same key and were never
    published, each with its extraction, the newest first."""
    rows = ask(connection, "left_windows", account=account, extraction_id=extraction_id, since=since)
    return [(row.run_id, Window(row.start_at, row.end_at)) for row in rows]


def left_questions(connection: sa.Connection, account: str, extraction_id: str, window: Window) -> list[LeftQuestion]:
    """An extraction's questions inside a window."""
    return records(LeftQuestion, _in_window(connection, "left_questions", account, extraction_id, window))


def left_hours(
    connection: sa.Connection, account: str, extraction_id: str, window: Window
) -> Iterator[tuple[str | None, datetime, str, Measures]]:
    """Usage in a window: key (None: the account), hour, model and measures."""
    for row in _in_window(connection, "left_hours", account, extraction_id, window):
        yield row.key_hash, row.hour, row.model, Measures(*(getattr(row, measure) for measure in MEASURES))


def left_unkeyed(connection: sa.Connection, account: str, extraction_id: str, window: Window) -> list[LeftSpend]:
    """Spend in a window that no key explains."""
    return records(LeftSpend, _in_window(connection, "left_unkeyed", account, extraction_id, window))


def _in_window(
    connection: sa.Connection, name: str, account: str, extraction_id: str, window: Window
) -> sa.CursorResult[tuple[object, ...]]:
    return ask(connection, name, account=account, extraction_id=extraction_id, start=window.start, end=window.end)
