"""What a page consists of: headline figures, tables with bars, lines of text. Values are already written as text.

Text may come from anywhere: templates escape it.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple


class Figure(NamedTuple):
    """A large figure: what it is, its value, its unit, and a line about it."""

    label: str
    value: str
    unit: str
    about: str


class Column(NamedTuple):
    """A column of a table. Numbers are aligned to the right; `muted` text identifies, and is rarely read."""

    title: str
    kind: Literal["text", "muted", "number", "bar"] = "number"


class Bar(NamedTuple):
    """A bar in a cell: the lengths of its two parts, in percent of the longest bar of the column."""

    first: str
    second: str


# A `group` is summed from the `detail` rows that follow, a `sum` from all rows above.
Kind = Literal["", "total", "rest", "nobody", "group", "detail", "sum"]


class Row(NamedTuple):
    """A row of a table: a cell for each column. A `bar` is a Bar, or blank."""

    cells: Sequence[str | Bar]
    kind: Kind = ""


class Table(NamedTuple):
    """A table under its title, with the unit of its bars; `note` stands below it."""

    title: str
    unit: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""


def bar(first: Decimal, second: Decimal, longest: Decimal) -> Bar:
    """The bar of two amounts beside a column's longest sum; negative amounts have no length."""
    return Bar(*(_percent(max(part, Decimal(0)), longest) for part in (first, second)))


def _percent(part: Decimal, longest: Decimal) -> str:
    return f"{100 * part / longest:.2f}" if longest > 0 else "0"
