"""The geometry of a chart over time: a column for each hour, day or month, two amounts on top of each other.

Lengths are in units of the picture's own coordinates. The macro `chart` of `parts.html` draws it.
"""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from orcost_pipeline.formats import rounded

WIDTH, HEIGHT = 760, 190
LEFT, TOP, BOTTOM = 52, 8, 32
# Labels below this many columns; of more columns, some have none.
MOST_LABELS = 31
_LEAST_LINES = 3


class Slot(NamedTuple):
    """A place on the time axis: its label, one below where a longer span begins, the words about it, and two amounts.

    A `part` of the hour, day or month lies outside the window or in the future; `unknown`: not all of it is known.
    """

    label: str
    sublabel: str
    words: str
    first: Decimal
    second: Decimal
    is_part: bool = False
    is_unknown: bool = False


class Column(NamedTuple):
    """A column as drawn: the left edge and width of its slot and of itself, the tops and heights of its two amounts."""

    slot: Slot
    left: str
    width: str
    x: str
    thickness: str
    tops: tuple[str, str]
    heights: tuple[str, str]
    middle: str
    has_label: bool


class Line(NamedTuple):
    """A horizontal line and the amount that it stands for."""

    y: str
    label: str


class Chart(NamedTuple):
    """A chart under its title, which ends with the unit; `words` say the same to those who do not see it."""

    title: str
    unit: str
    words: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    names: tuple[str, str]
    has_second: bool
    size: tuple[int, int] = (WIDTH, HEIGHT)
    frame: tuple[int, int, int] = (LEFT, TOP, HEIGHT - BOTTOM)

    @property
    def has_part(self) -> bool:
        """Whether a column shows a part of its span."""
        return any(it.slot.is_part and (it.slot.first or it.slot.second) for it in self.columns)

    @property
    def has_unknown(self) -> bool:
        """Whether not all is known of a column."""
        return any(it.slot.is_unknown for it in self.columns)


def chart(title: str, unit: str, words: str, slots: Sequence[Slot], names: tuple[str, str]) -> Chart:
    """A chart of the slots from left to right; `names` are those of the two amounts."""
    highest = max((it.first + it.second for it in slots), default=Decimal(0))
    step = _step(highest)
    top = max((highest / step).to_integral_value(ROUND_CEILING), _LEAST_LINES) * step
    room = Decimal(HEIGHT - TOP - BOTTOM)
    places = max(0, -int(step.as_tuple().exponent))
    lines = [
        Line(_length(TOP + room - room * step * number / top), rounded(step * number, places))
        for number in range(int(top / step) + 1)
    ]
    width = Decimal(WIDTH - LEFT) / max(len(slots), 1)
    every = -(-len(slots) // MOST_LABELS)
    columns = [_column(it, number, width, room / top, every) for number, it in enumerate(slots)]
    return Chart(title, unit, words, columns, lines, names, any(it.second for it in slots))


def _column(slot: Slot, number: int, width: Decimal, scale: Decimal, every: int) -> Column:
    left, floor = LEFT + number * width, Decimal(HEIGHT - BOTTOM)
    thickness = min(width * Decimal("0.76"), Decimal(48))
    first, second = (max(amount, Decimal(0)) * scale for amount in (slot.first, slot.second))
    return Column(
        slot,
        _length(left),
        _length(width),
        _length(left + (width - thickness) / 2),
        _length(thickness),
        (_length(floor - first), _length(floor - first - second)),
        (_length(first), _length(second)),
        _length(left + width / 2),
        has_label=number % every == 0,
    )


def _step(highest: Decimal) -> Decimal:
    """The distance of the lines: 1, 2 or 5 times a power of ten, so that there are three to six."""
    if highest <= 0:
        return Decimal(1)
    power = Decimal(1).scaleb(highest.adjusted() - 1)
    return next(power * factor for factor in (2, 5, 10, 20, 50) if highest <= power * factor * 5)


def _length(value: Decimal) -> str:
    return f"{value:.1f}"
