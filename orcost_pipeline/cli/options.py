"""Options and arguments that commands share, and the settings and clock that they begin with."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orcost_pipeline.text import message

if TYPE_CHECKING:
    from orcost_pipeline.settings import Settings


class Period(StrEnum):
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"


class By(StrEnum):
    COMPANY = "company"
    KEY = "key"
    MODEL = "model"
    CREATOR = "creator"
    WORKSPACE = "workspace"


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class ReportFormat(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


class CsvOrJson(StrEnum):
    CSV = "csv"
    JSON = "json"


class TableOrJson(StrEnum):
    TABLE = "table"
    JSON = "json"


Account = Annotated[str | None, typer.Option(metavar="NAME", help="Only this account.")]
Output = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Output file, written atomically. Default for text formats: standard output."),
]
AccountName = Annotated[str, typer.Argument(metavar="NAME", help="Account name.")]
Login = Annotated[str, typer.Argument(help="Name of a login of the database.")]
ToSql = Annotated[bool, typer.Option("--sql", help="Change nothing; print the statements for an administrator.")]
Agreed = Annotated[bool, typer.Option("--yes", help="Go on without asking.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the web interface.")]


def utc_day(text: str) -> date:
    """A UTC day written YYYY-MM-DD; raises typer.BadParameter for anything else."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a UTC day such as 2026-11-22.") from None


def _past_day(context: typer.Context, day: date | None) -> date | None:
    if day and day > (today := now(context).date()):
        raise typer.BadParameter(f"{day} has not come yet: today is {today}, UTC.")
    return day


Since = Annotated[
    date | None,
    typer.Option(
        parser=utc_day, callback=_past_day, metavar="DATE", help="Ask again for everything from this UTC day on."
    ),
]


def proxy_names(given: list[str] | None) -> list[str]:
    """Host names in lower case, as browsers send them; raises typer.BadParameter for anything else."""
    names = [name.lower() for name in given or ()]
    for name in names:
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name) or name == "0.0.0.0":  # noqa: S104 (no address to listen on)
            problem = "is no name such as costs.example.com. The web interface listens on the loopback address only"
            raise typer.BadParameter(f'"{name}" {problem}.')
    return names


def group(description: str, *, is_command: bool = False) -> typer.Typer:
    """An empty group of commands; with `is_command` it does something without a command too."""
    # Without Rich markup, help is three times as fast and errors are plain lines; reports still use Rich.
    return typer.Typer(
        help=description,
        no_args_is_help=not is_command,
        invoke_without_command=is_command,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def settings() -> "Settings":
    """The project's settings; their notes go to stderr. Raises PermanentError for wrong settings."""
    from orcost_pipeline.settings import load_settings

    loaded = load_settings()
    for note in loaded.notes:
        typer.echo(message(note), err=True)
    return loaded


def system_clock() -> datetime:
    """The time of this machine, UTC."""
    return datetime.now(UTC)


def clock(context: typer.Context) -> Callable[[], datetime]:
    """The clock of a command: the one that `main` was given, or else the system's."""
    return context.obj or system_clock


def now(context: typer.Context) -> datetime:
    """The time of a command, UTC."""
    return clock(context)()
