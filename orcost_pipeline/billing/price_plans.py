"""The price plans: the rows of a file or a table → what companies are charged, or every mistake with its line.

Plans with any mistake are rejected as a whole. `prices.py` decides which row holds; callers decide what stays in force
after a rejection. Pure functions.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from orcost_pipeline.billing.prices import BYOK, CHARGES, EVERYBODY, MARKUP, MONTHLY, PURCHASE
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.companies.rows import (
    Columns,
    Content,
    Mistake,
    RefusedError,
    not_one_of,
    read_rows,
    repetitions,
    sha256_of,
)
from orcost_pipeline.companies.values import date_of, period_mistakes
from orcost_pipeline.text import quoted
from orcost_pipeline.warehouse.questions.plans import PlanRow
from orcost_pipeline.windows import next_month

REQUIRED_COLUMNS = ("company", "charge", "value")
COLUMNS = (*REQUIRED_COLUMNS, "model", "valid_from", "valid_to", "note")
NO_CHARGE = "none"
_COLUMNS = Columns(COLUMNS, REQUIRED_COLUMNS)
_PERCENTAGES = (MARKUP, BYOK, PURCHASE)
# Far more digits than any price has, far fewer than Postgres keeps exactly.
_NUMBER = re.compile(r"-?[0-9]{1,100}(?:\.[0-9]{1,100})?")


class PricePlansError(RefusedError):
    """The price plans are rejected."""


@dataclass(frozen=True)
class PricePlans:
    """Valid price plans: their rows in order, and warnings about rows that never hold, or later than they say."""

    source: str
    sha256: str
    rows: tuple[PlanRow, ...]
    warnings: tuple[Mistake, ...]


def read_price_plans(content: Content, source: str) -> PricePlans:
    """The rows of a file (CSV) or table of price plans, in order. `source` names it in messages.

    Raises PricePlansError with all its mistakes. Doubtful but valid rows are warnings of the plans.
    """
    parsed, mistakes = read_rows(content, source, _COLUMNS, PricePlansError)
    cells = [_Cells(row.line, **row.values) for row in parsed]
    mistakes += [Mistake(row.line, message) for row in cells for message in _row_mistakes(row)]
    mistakes += repetitions(((row.identity(), row.line) for row in cells), "company, charge, model and dates")
    if mistakes:
        raise PricePlansError(source, mistakes)
    rows = tuple(_plan_row(row) for row in cells)
    return PricePlans(source, sha256_of(content), rows, tuple(_warnings(rows)))


class _Cells(NamedTuple):
    """A row's values; blank for absent ones."""

    line: int
    company: str = ""
    charge: str = ""
    value: str = ""
    model: str = ""
    valid_from: str = ""
    valid_to: str = ""
    note: str = ""

    def identity(self) -> tuple[str, ...] | None:
        """What no other row may have; None for a row whose blanks are mistakes already."""
        if not (self.company and self.charge):
            return None
        return self.company, self.charge, self.model, self.valid_from, self.valid_to


def _row_mistakes(row: _Cells) -> Iterator[str]:
    for name in REQUIRED_COLUMNS:
        if not getattr(row, name):
            yield f"{name} is blank."
    if row.company.casefold() == UNATTRIBUTED.casefold():
        yield f"company {quoted(row.company)} is reserved for what no rule matches, which is never charged."
    if row.charge and row.charge not in CHARGES:
        yield f"charge {not_one_of(row.charge, CHARGES)}"
    if row.value:
        yield from _value_mistakes(row)
    if row.model and row.charge in MONTHLY:
        yield f"{row.charge} is not for single models: leave model blank."
    yield from period_mistakes(row.valid_from, row.valid_to)


def _value_mistakes(row: _Cells) -> Iterator[str]:
    if row.value == NO_CHARGE:
        return
    if not _NUMBER.fullmatch(row.value):
        yield f"value {quoted(row.value)} is neither a decimal with a point, such as 12.5, nor {NO_CHARGE}."
        return
    least = -100 if row.charge in _PERCENTAGES else 0
    if row.charge in CHARGES and Decimal(row.value) < least:
        yield f"value {quoted(row.value)} of {row.charge} is below {least}."


def _plan_row(row: _Cells) -> PlanRow:
    return PlanRow(
        row.line,
        row.company,
        row.charge,
        None if row.value == NO_CHARGE else Decimal(row.value),
        row.model or None,
        date_of(row.valid_from),
        date_of(row.valid_to),
        row.note or None,
    )


# Doubts


def _warnings(rows: Iterable[PlanRow]) -> Iterator[Mistake]:
    """A warning for each row that can hold on no day, as an earlier one comes first or no month begins in its period,
    and for each monthly one that begins within a month."""
    seen: defaultdict[tuple[str, str, str | None], list[PlanRow]] = defaultdict(list)
    for row in rows:
        earlier = min(
            (it for wider in _wider(row) for it in seen[wider] if _covers(it, row)),
            key=lambda it: it.line,
            default=None,
        )
        if earlier:
            message = f"{row.charge} of {quoted(row.company)} never holds: line {earlier.line} comes first."
            yield Mistake(row.line, message)
        elif row.charge in MONTHLY:
            yield from _late(row)
        seen[row.company, row.charge, row.model].append(row)


def _late(row: PlanRow) -> Iterator[Mistake]:
    """A warning for a monthly row that begins within a month, which its first day decided, or covers no first day."""
    first = _first_of_a_month(row.valid_from, row.valid_to)
    if first is None:
        message = f"{row.charge} never holds: it covers no first day of a month, which decides for the whole month."
        yield Mistake(row.line, message)
    elif row.valid_from and first > row.valid_from:
        message = f"{row.charge} holds from {first} on: the first day of a month decides for the whole month."
        yield Mistake(row.line, message)


def _wider(row: PlanRow) -> Iterator[tuple[str, str, str | None]]:
    """Companies, charge and models of rows that are for everything `row` is for.

    A monthly row for every company does not reach one without spend.
    """
    for company in {row.company} if row.charge in MONTHLY else {row.company, EVERYBODY}:
        for model in {row.model, None, EVERYBODY}:
            yield company, row.charge, model


def _covers(earlier: PlanRow, row: PlanRow) -> bool:
    """Whether the days of one row are among those of another."""
    begins = earlier.valid_from is None or (row.valid_from is not None and earlier.valid_from <= row.valid_from)
    ends = earlier.valid_to is None or (row.valid_to is not None and row.valid_to <= earlier.valid_to)
    return begins and ends


def _first_of_a_month(start: date | None, end: date | None) -> date | None:
    """The first day that begins a month in a period of days; `end` is exclusive, None is without limit."""
    if start is None or start.day == 1:
        return start or date.min
    if start.replace(day=1) == date.max.replace(day=1):
        return None
    first = next_month(start)
    return first if end is None or first < end else None
