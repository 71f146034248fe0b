"""The exchange rates: the rows of a file or a table → what a USD is worth in other currencies, or every mistake.

Rates with any mistake are rejected as a whole. Pure functions.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from orcost_pipeline.companies.rows import (
    Columns,
    Content,
    Mistake,
    RefusedError,
    Row,
    read_rows,
    repetitions,
)
from orcost_pipeline.companies.values import currency_mistakes, date_mistakes, date_of
from orcost_pipeline.text import quoted

BASE = "USD"
COLUMNS = ("date", "currency", "per_usd")
_COLUMNS = Columns(COLUMNS, COLUMNS)
_NUMBER = re.compile(r"[0-9]{1,100}(?:\.[0-9]{1,100})?")


class ExchangeRatesError(RefusedError):
    """The exchange rates are rejected."""


class ExchangeRate(NamedTuple):
    """How many units of a currency (ISO 4217) a USD is worth from a UTC day on, until there is a later rate."""

    date: date
    currency: str
    per_usd: Decimal


@dataclass(frozen=True)
class ExchangeRates:
    """Valid exchange rates, in the order of the file."""

    source: str
    rows: tuple[ExchangeRate, ...]


def read_exchange_rates(content: Content, source: str) -> ExchangeRates:
    """The rows of a file (CSV) or table of exchange rates. `source` names it in messages.

    Raises ExchangeRatesError with all its mistakes.
    """
    rows, mistakes = read_rows(content, source, _COLUMNS, ExchangeRatesError)
    mistakes += [Mistake(row.line, message) for row in rows for message in _row_mistakes(row.values)]
    mistakes += repetitions(((_identity(row), row.line) for row in rows), "date and currency")
    if mistakes:
        raise ExchangeRatesError(source, mistakes)
    return ExchangeRates(source, tuple(_rate(row.values) for row in rows))


def _identity(row: Row) -> tuple[str, ...] | None:
    """What no other row may have; None for a row whose blanks are mistakes already."""
    cells = row.values.get("date", ""), row.values.get("currency", "")
    return cells if all(cells) else None


def _row_mistakes(values: Mapping[str, str]) -> Iterator[str]:
    for name in COLUMNS:
        if not values.get(name):
            yield f"{name} is blank."
    yield from date_mistakes("date", values.get("date", ""))
    yield from currency_mistakes(values.get("currency", ""))
    if not (per_usd := values.get("per_usd")):
        return
    if not _NUMBER.fullmatch(per_usd) or not Decimal(per_usd):
        yield f"per_usd {quoted(per_usd)} is not a decimal with a point above 0, such as 0.92."
    elif values.get("currency") == BASE and Decimal(per_usd) != 1:
        yield f"per_usd {quoted(per_usd)} of {BASE} is not 1: rates are units of a currency for each {BASE}."


def _rate(values: Mapping[str, str]) -> ExchangeRate:
    day = date_of(values["date"])
    assert day is not None  # noqa: S101 - a row with another date was refused
    return ExchangeRate(day, values["currency"], Decimal(values["per_usd"]))
