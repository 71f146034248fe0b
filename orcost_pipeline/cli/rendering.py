"""The look of answers: tables and messages for people, exact JSON and CSV for programs.

Colour is used only on a terminal without NO_COLOR; pipes get plain text that is never wrapped.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.formats import age, clock
from orcost_pipeline.health.finding import Finding, Severity
from orcost_pipeline.text import inert, message, short
from orcost_pipeline.warehouse.questions.asking import Rows

LONGEST_CELL = 200
# Rows of a long table; csv and json have all of them.
MOST_ROWS = 50


# Tables


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table without lines; `right` columns hold numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return made


def cells(*values: str) -> list[Text]:
    """Cells with literal text: names are never interpreted as markup or emoji."""
    return [Text(short(value, LONGEST_CELL)) for value in values]


def left_out(count: int, shown: int, where: str) -> list[Text]:
    """A line below a table cut to `shown` of `count` rows; `where` names the command for all. Empty if not cut."""
    return [Text(f"… and {count - shown:,} more; all of them: {where}", style="dim")] if count > shown else []


def console(*, is_error: bool = False) -> Console:
    """A Rich console on stdout or stderr, without wrapping in a pipe."""
    colors = None if os.environ.get("NO_COLOR") else "auto"
    made = Console(stderr=is_error, highlight=False, markup=False, emoji=False, color_system=colors)
    if not made.is_terminal:
        made.width = 10_000
    return made


def is_terminal() -> bool:
    """Whether stdin is a terminal, so that a question can be answered."""
    # With stdin closed at the start there is none.
    return sys.stdin is not None and sys.stdin.isatty()


def question() -> Callable[[str], bool] | None:
    """Asks a question that is answered with yes or no, on the terminal; None where nobody can answer."""
    return typer.confirm if is_terminal() else None


def say(text: str, *, is_error: bool = False, is_line: bool = True) -> None:
    """Prints a message for people, cleaned, on stdout or stderr."""
    typer.echo(message(text), err=is_error, nl=is_line)


def tell(target: Console, text: str, style: str = "") -> None:
    """Prints a message for people on a console in use, such as below a spinner."""
    target.print(message(text), style=style, markup=False, soft_wrap=True)


def show(*parts: RenderableType, is_error: bool = False) -> None:
    """Prints parts one below the other, without the trailing blanks of tables."""
    target = console(is_error=is_error)
    terminal = target.width
    with target.capture() as captured:
        for part in parts:
            # Text is wrapped to the terminal; a table is never squeezed, because a truncated figure is a wrong one.
            target.width = terminal if isinstance(part, str | Text) else max(terminal, _width(target, part))
            target.print(_harmless(part))
    lines = captured.get().split("\n")
    typer.echo("\n".join(line.rstrip() for line in lines), nl=False, err=is_error, color=True)


def _harmless(part: RenderableType) -> RenderableType:
    """A text cleaned for the terminal; cells of tables are cleaned one by one."""
    if isinstance(part, Text):
        return Text(message(part.plain), style=part.style)
    return message(part) if isinstance(part, str) else part


def fits(renderable: RenderableType) -> bool:
    """Whether it is no wider than the terminal."""
    target = console()
    return _width(target, renderable) <= target.width


def _width(target: Console, renderable: RenderableType) -> int:
    return Measurement.get(target, target.options.update(width=10_000), renderable).maximum


# Findings


def finding_lines(found: Sequence[Finding], now: datetime, all_is_well: str) -> Iterator[Text]:
    """Each finding with what to do; begins with `all_is_well` where none is worse than a note."""
    if all(finding.severity is Severity.NOTE for finding in found):
        yield Text(all_is_well, style="green")
    styles = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: ""}
    for finding in found:
        first, *more = message(finding.message).splitlines()
        about = f"{finding.account}: " if finding.account else ""
        yield Text(f"{finding.severity:<8} {about}{first}", style=styles[finding.severity])
        yield from (Text(f"  {line.strip()}") for line in more)
        if finding.since:
            yield Text(f"  since {clock(finding.since, now)} ({age(now - finding.since)})")
        yield Text(f"  → {finding.todo}")


# Exact data


def plain(value: Any) -> Any:
    """A value as in JSON and CSV: amounts as exact decimals without exponent, times in ISO 8601 (UTC)."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, date) else value


def as_json(value: Any) -> str:
    """Indented JSON with exact amounts, as strings."""
    return json.dumps(value, indent=2, default=plain)


def mistakes_data(mistakes: Sequence[Mistake]) -> list[dict[str, object]]:
    """Mistakes or warnings of a file as JSON objects."""
    return [{"line": mistake.line, "message": mistake.message} for mistake in mistakes]


def write_json(answer: Rows) -> None:
    """Prints rows as a JSON array of objects."""
    typer.echo(as_json([{name: plain(row[name]) for name in answer.columns} for row in answer.rows]))


def write_csv(answer: Rows) -> None:
    """Prints rows as CSV with a header."""
    lines = [csv_line(answer.columns), *(csv_line(row[name] for name in answer.columns) for row in answer.rows)]
    # With colour: otherwise typer removes what looks like colour codes from a pipe.
    typer.echo("".join(lines), nl=False, color=True)


def csv_line(values: Iterable[Any]) -> str:
    """A line of CSV, as every command but those of the mapping writes it: numbers and times are plain and exact.

    Text that a spreadsheet would evaluate as a formula gets a leading apostrophe; a lone carriage return, at which it
    would begin a new record, is quoted too.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(map(_csv_cell, values))
    return text.getvalue().removesuffix("\r\n") + "\n"


def _csv_cell(value: Any) -> Any:
    return inert(value) if isinstance(value, str) else plain(value)
