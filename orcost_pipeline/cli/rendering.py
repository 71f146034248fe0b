"""How answers look: amounts, times and tables for people, exact JSON and CSV for programs.

Colour only on a terminal and without NO_COLOR; pipes get plain text that is never wrapped. What is not known is `–`.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from orcost_pipeline.text import inert, message, plural, short
from orcost_pipeline.warehouse.reports import Rows
from orcost_pipeline.windows import CLOCK_WRONG, DAY, HOUR, STALE_AFTER, is_future, utc_day

UNKNOWN = "–"
NO_KEY, NO_NAME, NEVER_LISTED = "(no key)", "(no name)", "(never listed)"
SHORT_HASH = 8
LONGEST_CELL = 200
# Of a table of what waits for somebody: the most important rows; csv and json have all.
MOST_ROWS = 50
_MINUTE = timedelta(minutes=1)
_ROUNDING = Context(prec=100, rounding=ROUND_HALF_UP)


# Keys


def key_name(name: str | None, key_hash: str | None) -> str:
    """How a key is called, or why no name is to be had: it is blank, OpenRouter never listed the key, there is none."""
    if name is None:
        return NEVER_LISTED if key_hash else NO_KEY
    return short(name) if name.strip() else NO_NAME


def short_hash(key_hash: str | None) -> str:
    """Enough of a hash to tell a key from others, and for `orcost map explain` to find it."""
    return key_hash[:SHORT_HASH] if key_hash else UNKNOWN


# Amounts and counts


def rounded(amount: Decimal, places: int) -> str:
    """Half up, with thousands separators and a real minus."""
    shown = amount.quantize(Decimal(1).scaleb(-places), context=_ROUNDING)
    return f"{shown + 0:,}".replace("-", "−")


def money(column: Iterable[Decimal | None]) -> Callable[[Decimal | None], str]:
    """How to write the amounts of a column: two decimals, four where all of them are under a dollar."""
    largest = max((abs(amount) for amount in column if amount is not None), default=Decimal(0))
    places = 4 if 0 < largest < 1 else 2
    return lambda amount: UNKNOWN if amount is None else rounded(amount, places)


def tokens(count: Decimal) -> str:
    """12,345,678 is 12.3 M."""
    for size, unit in ((1, ""), (10**3, "k"), (10**6, "M"), (10**9, "B")):
        if abs(count) < Decimal("999.95") * size or unit == "B":
            break
    return f"{rounded(count / size, 1)} {unit}" if unit else rounded(count, 0)


def change(now: Decimal, before: Decimal | None) -> str:
    """From `before` to `now` in percent; `new` for what was nothing."""
    if before is None or now == before == 0:
        return UNKNOWN
    if before == 0:
        return "new"
    percent = rounded((now - before) / abs(before) * 100, 0)
    return f"{percent} %" if percent.startswith(("−", "0")) else f"+{percent} %"


def percentage(percent: Decimal) -> str:
    """As short as it is exact: 60.0 is 60."""
    text = f"{percent:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(part: Decimal, whole: Decimal) -> str:
    """A part in percent; what is there is never 0.0 %."""
    if part == 0 or whole == 0:
        return "0 %"
    percent = part / whole * 100
    return "< 0.1 %" if 0 < percent < Decimal("0.05") else f"{rounded(percent, 1)} %"


# Times


def age(span: timedelta) -> str:
    """How long ago, in the largest unit that says enough; of what is yet to come, that a clock was wrong."""
    if span < -CLOCK_WRONG:
        return f"in {length(-span)}: a clock was wrong"
    return f"{length(span)} ago" if span >= _MINUTE else "just now"


def length(span: timedelta) -> str:
    """In whole days from two days on, else in hours or minutes."""
    for unit, name in ((DAY, "day"), (HOUR, "hour")):
        if span >= (2 * unit if unit is DAY else unit):
            return plural(span // unit, name)
    return plural(span // _MINUTE, "minute")


def clock(instant: datetime, now: datetime) -> str:
    """The minute in UTC, with its date unless that is today."""
    return f"{instant:%H:%M} UTC" if utc_day(instant) == utc_day(now) else f"{instant:%Y-%m-%d %H:%M} UTC"


def complete_to(as_of: datetime, now: datetime) -> str:
    """How far data is complete, so that what is old never looks like what is so."""
    told = f"omplete to {clock(as_of, now)} ({age(now - as_of)})"
    return f"STALE: c{told}" if is_stale(as_of, now) else f"C{told}"


def is_stale(as_of: datetime, now: datetime) -> bool:
    """Whether data is too old to be trusted, or, dated into the future, of an age that nobody knows."""
    return now - as_of > STALE_AFTER or is_future(as_of, now)


# Tables


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table without lines; `right` columns hold numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return made


def cells(*values: str) -> list[Text]:
    """Cells whose text is taken as it is: a name is neither markup nor an emoji."""
    return [Text(short(value, LONGEST_CELL)) for value in values]


def left_out(count: int, shown: int, where: str) -> list[Text]:
    """The line below a table that has the first of many rows; `where` are all of them."""
    return [Text(f"… and {count - shown:,} more; all of them: {where}", style="dim")] if count > shown else []


def console(*, is_error: bool = False) -> Console:
    made = Console(
        stderr=is_error, highlight=False, markup=False, emoji=False, color_system=None if is_plain() else "auto"
    )
    if not made.is_terminal:
        made.width = 10_000
    return made


def is_plain() -> bool:
    return bool(os.environ.get("NO_COLOR"))


def is_terminal() -> bool:
    """Whether somebody is there to answer a question."""
    # A process started with stdin closed has none.
    return sys.stdin is not None and sys.stdin.isatty()


def say(text: str, *, is_error: bool = False, is_line: bool = True) -> None:
    """Prints a message, for people to read."""
    typer.echo(message(text), err=is_error, nl=is_line)


def tell(target: Console, text: str, style: str = "") -> None:
    """The same on a console that something else is drawn on."""
    target.print(message(text), style=style, markup=False, soft_wrap=True)


def show(*parts: RenderableType, is_error: bool = False) -> None:
    """Prints parts, each on lines of its own, without the blanks that pad a table."""
    target = console(is_error=is_error)
    terminal = target.width
    with target.capture() as captured:
        for part in parts:
            # Text is wrapped to the terminal; a table never gives way, for a figure cut short is a wrong one.
            target.width = terminal if isinstance(part, str | Text) else max(terminal, _width(target, part))
            target.print(_harmless(part))
    lines = captured.get().split("\n")
    typer.echo("\n".join(line.rstrip() for line in lines), nl=False, err=is_error, color=True)


def _harmless(part: RenderableType) -> RenderableType:
    """Text as a terminal may have it; the cells of a table are made so one by one."""
    if isinstance(part, Text):
        return Text(message(part.plain), style=part.style)
    return message(part) if isinstance(part, str) else part


def fits(renderable: RenderableType) -> bool:
    target = console()
    return _width(target, renderable) <= target.width


def _width(target: Console, renderable: RenderableType) -> int:
    return Measurement.get(target, target.options.update(width=10_000), renderable).maximum


# Exact data


def plain(value: Any) -> Any:
    """A value as JSON and CSV hold it: amounts as exact decimals without exponent, times in ISO 8601."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, date) else value


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, default=plain)


def write_json(answer: Rows) -> None:
    typer.echo(as_json([{name: plain(row[name]) for name in answer.columns} for row in answer.rows]))


def write_csv(answer: Rows) -> None:
    lines = [answer.columns, *([_csv_cell(row[name]) for name in answer.columns] for row in answer.rows)]
    # With colour, for without it what looks like one is taken out of a pipe.
    typer.echo("".join(map(_csv_line, lines)), nl=False, color=True)


def _csv_line(cells: Iterable[Any]) -> str:
    """A record; a carriage return alone, at which spreadsheets begin a new one, is quoted too."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _csv_cell(value: Any) -> Any:
    """Numbers and times as they are, negative ones too; text that a spreadsheet would run begins with an apostrophe."""
    return inert(value) if isinstance(value, str) else plain(value)
