"""The command line: which commands and options there are, and how failures end.

Each command imports its work when it runs, so that `orcost --help` answers at once. An error is a plain sentence on
stderr and exit code 1; a traceback goes to the log file only.
"""

import io
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from orcost_pipeline.errors import OrcostError
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


class CsvOrJson(StrEnum):
    CSV = "csv"
    JSON = "json"


class TableOrJson(StrEnum):
    TABLE = "table"
    JSON = "json"


def _group(description: str, *, is_command: bool = False) -> typer.Typer:
    # Without Rich markup, help is three times as fast and errors are plain lines; Rich still draws the reports.
    return typer.Typer(
        help=description,
        no_args_is_help=not is_command,
        invoke_without_command=is_command,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


app = _group("What OpenRouter cost each company: hourly, in your own Postgres, closed to the account's total.")
mapping_group = _group("The mapping from API keys to companies.")
database_group = _group("The warehouse's Postgres.")
app.add_typer(mapping_group, name="map")
app.add_typer(database_group, name="db")
accounts_group = _group("The stored accounts: list, rename, forget, rebuild.", is_command=True)
app.add_typer(accounts_group, name="accounts")

Account = Annotated[str | None, typer.Option(metavar="NAME", help="Only this account.")]
AccountName = Annotated[str, typer.Argument(metavar="NAME", help="Account name.")]
Agreed = Annotated[bool, typer.Option("--yes", help="Go on without asking.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the web interface.")]


def _utc_day(told: str) -> date:
    try:
        return date.fromisoformat(told)
    except ValueError:
        raise typer.BadParameter(f"{told!r} is not a UTC day such as 2026-11-22.") from None


def _past_day(told: str) -> date:
    if (day := _utc_day(told)) > _now().date():
        raise typer.BadParameter(f"{day} has not come yet: today is {_now():%Y-%m-%d}, UTC.")
    return day


Since = Annotated[
    date | None,
    typer.Option(parser=_past_day, metavar="DATE", help="Ask again for everything from this UTC day on."),
]


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"orcost {version('orcost_pipeline')}")
        raise typer.Exit


@app.callback()
def _options_of_all(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What OpenRouter cost each company: hourly, in your own Postgres, closed to the account's total."""


# Reading


@app.command("report")
def report_command(
    period: Annotated[Period | None, typer.Option(help="Rolling hours up to now; 30d unless you say.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="A calendar month.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="First hour: 2026-11-01 or 2026-11-01T13:00, UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Exclusive end; now unless you say.")] = None,
    by: Annotated[By, typer.Option(help="One row for each of these.")] = By.COMPANY,
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """What each company, key, model, creator or workspace cost. Below it: how old and complete that is."""
    from orcost_pipeline.cli import report as work

    now = _now()
    chosen = period.value if period else None
    work.report(_settings(), work.asked(by.value, account, chosen, month, start, end, now), output.value, now)


@app.command("status")
def status_command(
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """How each account stands, what is wrong, what helps. Exits 1 where there is an error."""
    from orcost_pipeline.cli import status as work

    raise typer.Exit(work.status(_settings(), output.value, _now()))


@app.command("keys")
def keys_command(
    history: Annotated[bool, typer.Option("--history", help="Every change of every key.")] = False,
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """Which keys there are and were, and whose they are."""
    from orcost_pipeline.cli import keys as work

    work.keys(_settings(), account, output.value, _now(), is_history=history)


@app.command("reconcile")
def reconcile_command(
    day: Annotated[date | None, typer.Option(parser=_utc_day, metavar="DATE", help="This UTC day, in full.")] = None,
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """Whether each day adds up, and why not.

    What OpenRouter charged, what the keys explain, why they differ. Exits 1 where a day is open.
    """
    from orcost_pipeline.cli import reconcile as work

    raise typer.Exit(work.reconcile(_settings(), account, day, output.value, _now()))


@app.command("explain")
def explain_command(
    company: Annotated[str, typer.Argument(help="As the reports name it; Unattributed too.")],
    day: Annotated[
        date | None,
        typer.Option(parser=_utc_day, metavar="DATE", help="UTC day; today unless you say."),
    ] = None,
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """What a company's figure of a day is made of.

    Keys, models, rules, hours, and what OpenRouter answered.
    """
    from orcost_pipeline.cli import explain as work

    now = _now()
    work.explain(_settings(), company, day or now.date(), account, output.value, now)


@app.command("doctor")
def doctor_command(
    port: Port = 3000,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """What is wrong and what to do, asking OpenRouter too. Exits 1 where there is an error."""
    from orcost_pipeline.cli import doctor as work

    raise typer.Exit(work.doctor(output.value, port, _now))


@mapping_group.command("check")
def check_mapping(
    file: Annotated[Path | None, typer.Argument(help="The project's mapping unless you say.")] = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="json is exact.")] = TableOrJson.TABLE,
) -> None:
    """Whether a mapping is valid, and what it would move.

    Needs no warehouse, and loads nothing. Exits 0 only for a mapping that would be accepted.
    """
    from orcost_pipeline.cli.map import check as work

    work.check(_settings(), file, output.value)


@mapping_group.command("suggest")
def suggest_mapping(
    output: Annotated[CsvOrJson, typer.Option("--format", help="json is exact.")] = CsvOrJson.CSV,
) -> None:
    """Rules for keys without an owner, ready to paste.

    Guessed from names of companies, keys and rules, workspaces and creators; the largest spend first.
    """
    from orcost_pipeline.cli.map import suggest as work

    work.suggest_rules(_settings(), output.value)


@mapping_group.command("add")
def add_mapping(
    company: Annotated[str, typer.Argument(help="Who owns what the rule matches.")],
    match: Annotated[str, typer.Argument(help="key_hash, key_name, workspace, creator, external_user or label.")],
    pattern: Annotated[str, typer.Argument(help="A glob, or a whole hash.")],
    share: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPANY=PERCENT", help="Another owner's part; COMPANY keeps the rest. May be repeated."),
    ] = None,
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="First UTC day; open unless you say.")] = "",
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="First UTC day after it; open unless you say.")] = "",
    account: Annotated[str, typer.Option(metavar="NAME", help="Only for keys of this account.")] = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why it is so.")] = "",
    first: Annotated[bool, typer.Option("--first", help="Above the rules that take its keys now.")] = False,
    last: Annotated[bool, typer.Option("--last", help="Below them, even where they leave it no key.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
) -> None:
    """Add a rule to the file, after saying what it moves."""
    from orcost_pipeline.cli.map import add as work

    if first and last:
        raise typer.BadParameter("--first and --last exclude each other.")
    rule = {"match": match, "pattern": pattern, "account": account, "valid_from": start, "valid_to": end, "note": note}
    work.add(_settings(), company, share or (), rule, is_first=first if first or last else None, is_agreed=yes)


@mapping_group.command("explain")
def explain_mapping(
    key: Annotated[str, typer.Argument(help="A key's name, its hash, or the hash's first 6 or more digits.")],
    at: Annotated[
        date | None, typer.Option(parser=_utc_day, metavar="DATE", help="UTC day; today unless you say.")
    ] = None,
    account: Account = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """Why a key is whose it is: which rule wins."""
    from orcost_pipeline.cli.map import explain as work

    work.explain_key(_settings(), key, at or _now().date(), account, output.value)


@mapping_group.command("todo")
def todo_mapping(
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """Keys without an owner, the most expensive first."""
    from orcost_pipeline.cli.map import todo as work

    work.todo(_settings(), account, output.value, _now())


@mapping_group.command("log")
def log_mapping(
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """Every version of the mapping that was in force."""
    from orcost_pipeline.cli.map import versions as work

    work.log(_settings(), output.value)


@mapping_group.command("diff")
def diff_mapping(
    before: Annotated[int | None, typer.Argument(min=0, help="A version; the one before AFTER unless you say.")] = None,
    after: Annotated[int | None, typer.Argument(min=1, help="A later one; the newest unless you say.")] = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """Which rules changed from one version to another."""
    from orcost_pipeline.cli.map import versions as work

    work.diff(_settings(), before, after, output.value)


@database_group.command("url")
def database_url() -> None:
    """Print the warehouse's URL, password included.

    As in: psql "$(orcost db url)"
    """
    from orcost_pipeline.cli import database as work

    work.url(_settings())


@database_group.command("start")
def start_database() -> None:
    """Start the embedded Postgres and print its URL."""
    from orcost_pipeline.cli import database as work

    work.url(_settings())


@database_group.command("migrate")
def migrate_database() -> None:
    """Bring the warehouse's schema to this program's version.

    orcost sync and orcost up do so too; commands that only read never do.
    """
    from orcost_pipeline.cli import database as work

    work.migrate(_settings())


@database_group.command("stop")
def stop_database() -> None:
    """Stop the embedded Postgres."""
    from orcost_pipeline.cli import database as work

    work.stop(_settings())


@accounts_group.callback()
def show_accounts(
    context: typer.Context,
    output: Annotated[TableOrJson, typer.Option("--format", help="json is exact.")] = TableOrJson.TABLE,
) -> None:
    """Which accounts are stored and configured, and since when.

    With a command: what is done to one as a whole.
    """
    from orcost_pipeline.cli import accounts as work

    if context.invoked_subcommand is None:
        work.show_accounts(_settings(), output.value, _now())


@accounts_group.command("rename")
def rename_account(
    old: Annotated[str, typer.Argument(help="As it is stored.")],
    new: Annotated[str, typer.Argument(help="New name.")],
) -> None:
    """Give an account another name, with all that is stored.

    Says what to change in orcost.toml and in the mapping.
    """
    from orcost_pipeline.cli import accounts as work

    work.rename(_settings(), old, new)


@accounts_group.command("forget")
def forget_account(name: AccountName, yes: Agreed = False) -> None:
    """Remove an account and all that is stored of it."""
    from orcost_pipeline.cli import accounts as work

    work.forget(_settings(), name, is_agreed=yes)


@accounts_group.command("confirm")
def confirm_account(name: AccountName) -> None:
    """Confirm that the current key belongs to the stored account.

    The next sync goes on, where it was refused as another account's.
    """
    from orcost_pipeline.cli import accounts as work

    work.confirm(_settings(), name, _now())


@accounts_group.command("rebuild")
def rebuild_account(name: AccountName, yes: Agreed = False) -> None:
    """Read again all that OpenRouter still tells.

    Replaces what is stored of it and keeps what is older: for a ledger that another account's key went into.
    """
    from orcost_pipeline.cli import accounts as work

    raise typer.Exit(work.rebuild(_settings(), name, _now(), is_agreed=yes))


# Running


def _names(given: list[str] | None) -> list[str]:
    """Names as browsers send them, which is in lower case."""
    names = [name.lower() for name in given or ()]
    for name in names:
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name) or name == "0.0.0.0":  # noqa: S104 (no address to listen on)
            told = "is no name such as costs.example.com. The web interface listens on the loopback address only"
            raise typer.BadParameter(f'"{name}" {told}.')
    return names


# An argument is let in to be refused in words that do not repeat it: it may be a key.
@app.command("init", context_settings={"allow_extra_args": True})
def init_command(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Account name; prompts if omitted.")] = None,
) -> None:
    """Connect an account, or replace its key.

    Asks for the key, proves it, writes .env and starter files.
    """
    from orcost_pipeline.cli import init as work

    work.init(_settings(), name, _now, context.args)


@app.command()
def sync(account: Account = None, since: Since = None) -> None:
    """Synchronise once, now. Exits 0 only when all is in."""
    with _spinner("Loading Dagster …"):
        from orcost_pipeline.cli import running

    raise typer.Exit(running.sync(_settings(), account, since))


@app.command()
def up(
    port: Port = 3000,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            callback=_names,
            help="A name that a proxy in front has, besides localhost. May be repeated; opens no other address.",
        ),
    ] = None,
) -> None:
    """Run it for good: database, web interface, hourly schedule."""
    from orcost_pipeline.deployment import services

    services.up(_settings(), port, host or ())


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Print the cost table and end.")] = False,
    port: Port = 3000,
) -> None:
    """The same against a simulated account; needs no key."""
    with _spinner("Loading Dagster …"):
        from orcost_pipeline.cli import running

    raise typer.Exit(running.demo(once, port))


@app.command("resync")
def resync_command(
    account: Account = None,
    since: Since = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it succeeded or failed.")] = False,
) -> None:
    """Ask the running deployment to synchronise now."""
    from orcost_pipeline.cli import resync as work

    work.resync(_settings(), account, since, is_waiting=wait)


@contextmanager
def _spinner(what: str) -> Iterator[None]:
    """Tells a terminal at once what takes its time; a pipe is told nothing."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def _settings() -> "Settings":
    from orcost_pipeline.settings import load_settings

    settings = load_settings()
    for note in settings.notes:
        typer.echo(message(note), err=True)
    return settings


def _now() -> datetime:
    return datetime.now(UTC)


# Failing


def main() -> None:
    """Runs a command and ends the process; whatever goes wrong is said in plain words."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OrcostError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The interpreter flushes stdout once more on its way out, which would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _fail(_logged(error))


def _fail(told: str) -> NoReturn:
    # A key in the wrong variable would be repeated as the path or name that it was taken for.
    typer.echo(message(_without_secrets(told)), err=True)
    sys.exit(1)


def _logged(error: Exception) -> str:
    """One sentence about a failure nobody foresaw, whose traceback is in the log file."""
    told = f"Something went wrong that should not have ({type(error).__name__})"
    try:
        log = _log_file()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            trace = "".join(traceback.format_exception(error))
            file.write(_without_secrets(f"{_now().isoformat()} {' '.join(sys.argv[1:])}\n{trace}\n"))
    except OSError as trouble:
        return f"{told}, and no log could be written ({trouble})."
    return f"{told}. The details are in {log}"


def _log_file() -> Path:
    from orcost_pipeline.settings import load_settings

    try:
        home = load_settings().home
    except OrcostError:
        home = Path(".orcost").resolve()
    return home / "logs" / "orcost.log"


def _without_secrets(text: str) -> str:
    return re.sub(r"sk-or-(?!v1-…)[\w-]+", "sk-or-…", re.sub(r"(://[^:/@\s]*):\S+@", r"\1:…@", text))
