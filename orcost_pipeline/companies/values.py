"""What several of the tables that people maintain say: dates and periods, currencies. Cells → values, or mistakes.

Mistakes are sentences; the caller knows their line.
"""

import re
from collections.abc import Iterator
from datetime import date

from orcost_pipeline.text import quoted

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CURRENCY = re.compile(r"[A-Z]{3}")


def date_of(text: str) -> date | None:
    """A date; None for a blank or invalid one."""
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def date_mistakes(column: str, text: str) -> Iterator[str]:
    """A sentence where the cell is neither blank nor a date."""
    if text and date_of(text) is None:
        yield f"{column} {quoted(text)} is not a date written YYYY-MM-DD."


def period_mistakes(valid_from: str, valid_to: str) -> Iterator[str]:
    """What is wrong with a period of days, whose last day is before `valid_to`; blank is without limit."""
    yield from date_mistakes("valid_from", valid_from)
    yield from date_mistakes("valid_to", valid_to)
    start, end = date_of(valid_from), date_of(valid_to)
    if start and end and end <= start:
        yield f"valid_to {end} is not later than valid_from {start}."


def currency_mistakes(text: str) -> Iterator[str]:
    """A sentence where the cell is neither blank nor written like a currency of ISO 4217."""
    if text and not _CURRENCY.fullmatch(text):
        yield f"currency {quoted(text)} is not three capital letters, such as EUR."
