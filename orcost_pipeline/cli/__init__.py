"""The command line: commands, options, and how failures end.

Each command imports its implementation when it runs, so that `orcost --help` answers at once. An error is a plain
sentence on stderr and exit code 1; tracebacks go to the log file only.
"""

import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orcost_pipeline.cli import options
from orcost_pipeline.cli.administration import (
    access_group,
    accounts_group,
    alerts_group,
    dashboard_group,
    database_group,
)
from orcost_pipeline.cli.billing.commands import billing_group
from orcost_pipeline.cli.export.commands import export_group
from orcost_pipeline.cli.map.commands import mapping_group
from orcost_pipeline.cli.options import (
    Account,
    By,
    Format,
    Output,
    Period,
    Port,
    ReportFormat,
    Since,
    TableOrJson,
    group,
    proxy_names,
    utc_day,
)
from orcost_pipeline.cli.plans.commands import plans_group
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.text import message

app = group("Hourly OpenRouter cost per company in your own Postgres, reconciled to each account's total.")
app.add_typer(mapping_group, name="map")
app.add_typer(billing_group)
app.add_typer(plans_group, name="plans")
app.add_typer(export_group, name="export")
app.add_typer(database_group, name="db")
app.add_typer(accounts_group, name="accounts")
app.add_typer(alerts_group, name="alerts")
app.add_typer(dashboard_group, name="dashboard")
app.add_typer(access_group, name="access")


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
    """Hourly OpenRouter cost per company in your own Postgres, reconciled to each account's total."""


# Reading


@app.command("report")
def report_command(
    context: typer.Context,
    period: Annotated[Period | None, typer.Option(help="Rolling hours up to now; default: 30d.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="A calendar month.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="First hour: 2026-11-01 or 2026-11-01T13:00, UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Exclusive end; default: now.")] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Days and months of a time zone such as Europe/Warsaw, instead of UTC."),
    ] = None,
    by: Annotated[By, typer.Option(help="One row for each of these; html shows them all.")] = By.COMPANY,
    account: Account = None,
    company: Annotated[str | None, typer.Option(metavar="NAME", help="Only the part of this company.")] = None,
    form: Annotated[
        ReportFormat, typer.Option("--format", help="csv and json are exact; html is a page to print and forward.")
    ] = ReportFormat.TABLE,
    output: Output = None,
) -> None:
    """What each company, key, model, creator or workspace cost. Below it: how old and complete that is."""
    from orcost_pipeline.cli.files import printing_to
    from orcost_pipeline.cli.report_request import report_request

    now = options.now(context)
    chosen = period.value if period else None
    request = report_request(by.value, account, chosen, month, start, end, now, company, time_zone)
    with printing_to(output):
        if form is ReportFormat.HTML:
            from orcost_pipeline.cli import report_page

            report_page.report(options.settings(), request, now)
        else:
            from orcost_pipeline.cli import report as work

            work.report(options.settings(), request, form.value, now)


@app.command("status")
def status_command(
    context: typer.Context,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """Status of each account, problems, and what to do. Exits 1 where there is an error."""
    from orcost_pipeline.cli import status as work

    raise typer.Exit(work.status(options.settings(), output.value, options.now(context)))


@app.command("keys")
def keys_command(
    context: typer.Context,
    history: Annotated[bool, typer.Option("--history", help="Every change of every key.")] = False,
    review: Annotated[bool, typer.Option("--review", help="What is worth doing: limit, rotate, revoke.")] = False,
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """API keys, past and present, and their companies."""
    if history and review:
        raise typer.BadParameter("--history and --review are two lists: give one of them.")
    if review:
        from orcost_pipeline.cli import key_review

        key_review.review(options.settings(), account, output.value, options.now(context))
        return
    from orcost_pipeline.cli import keys as work

    work.keys(options.settings(), account, output.value, options.now(context), is_history=history)


@app.command("forecast")
def forecast_command(
    context: typer.Context,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="A calendar month; default: this one.")] = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """Forecast each company's spend by the end of a month.

    Also shows the error of the same forecast in each of the three months before.
    """
    from orcost_pipeline.cli import forecast as work
    from orcost_pipeline.cli.report_request import month_window

    first = month_window(month).start.date() if month else None
    work.forecast(options.settings(), first, output.value, options.now(context))


@app.command("reconcile")
def reconcile_command(
    context: typer.Context,
    day: Annotated[date | None, typer.Option(parser=utc_day, metavar="DATE", help="This UTC day, in full.")] = None,
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """Whether each day reconciles, and why not.

    What OpenRouter charged, what the keys explain, why they differ. Exits 1 where a day is open.
    """
    from orcost_pipeline.cli import reconcile as work

    raise typer.Exit(work.reconcile(options.settings(), account, day, output.value, options.now(context)))


@app.command("explain")
def explain_command(
    context: typer.Context,
    company: Annotated[str, typer.Argument(help="Company name as in reports, or Unattributed.")],
    day: Annotated[
        date | None,
        typer.Option(parser=utc_day, metavar="DATE", help="UTC day; default: today."),
    ] = None,
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """How a company's cost on a day is made up.

    Keys, models, rules, hours, and what OpenRouter answered.
    """
    from orcost_pipeline.cli import explain as work

    now = options.now(context)
    work.explain(options.settings(), company, day or now.date(), account, output.value, now)


@app.command("doctor")
def doctor_command(
    context: typer.Context,
    port: Port = 3000,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """What is wrong and what to do, asking OpenRouter too. Exits 1 where there is an error."""
    from orcost_pipeline.cli import doctor as work

    raise typer.Exit(work.doctor(output.value, port, options.clock(context)))


# Running


# Arguments are accepted only to be refused without repeating them: one may be a key.
@app.command("init", context_settings={"allow_extra_args": True})
def init_command(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Account name; prompts if omitted.")] = None,
) -> None:
    """Connect an account, or replace its key.

    Asks for the key, proves it, writes .env and starter files.
    """
    from orcost_pipeline.cli import init as work

    work.init(options.settings(), name, options.clock(context), context.args)


@app.command()
def sync(account: Account = None, since: Since = None) -> None:
    """Sync once. Exits 0 only if everything was synced."""
    with _spinner("Loading Dagster …"):
        from orcost_pipeline.cli import running

    raise typer.Exit(running.sync(options.settings(), account, since))


@app.command()
def up(
    port: Port = 3000,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            callback=proxy_names,
            help="A name that a proxy in front has, besides localhost. May be repeated; opens no other address.",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="The web interface shows everything and changes nothing.")
    ] = False,
) -> None:
    """Run database, web interface and hourly schedule."""
    from orcost_pipeline.deployment import orcost_up

    orcost_up.up(options.settings(), port, orcost_up.Web(tuple(host or ()), read_only))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Sync once, print the cost table and exit.")] = False,
    port: Port = 3000,
) -> None:
    """Run orcost up against a simulated account; no key needed."""
    with _spinner("Loading Dagster …"):
        from orcost_pipeline.cli import running

    raise typer.Exit(running.demo(once, port))


@app.command("resync")
def resync_command(
    account: Account = None,
    since: Since = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the sync to finish.")] = False,
) -> None:
    """Ask the running deployment to sync now."""
    from orcost_pipeline.cli import resync as work

    work.resync(options.settings(), account, since, is_waiting=wait)


@contextmanager
def _spinner(what: str) -> Iterator[None]:
    """Shows a spinner with a text on a terminal; nothing in a pipe."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


# Failing


def main(arguments: Sequence[str] | None = None, clock: Callable[[], datetime] = options.system_clock) -> None:
    """Runs a command and ends the process, with exit code 1 and a plain sentence on stderr for any error.

    `arguments` are those after the program's name, by default the process's own; `clock` returns aware UTC times.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            app(arguments, "orcost", obj=clock)
        finally:
            sys.stdout.flush()
    except OrcostError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The interpreter flushes stdout again at exit, which would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _fail(_logged(error, arguments))


def _fail(text: str) -> NoReturn:
    # A key in the wrong variable would appear in a message as a path or a name.
    typer.echo(message(_without_secrets(text)), err=True)
    sys.exit(1)


def _logged(error: Exception, arguments: Sequence[str]) -> str:
    """A sentence about an unforeseen failure, whose traceback is written to the log file."""
    sentence = f"Something went wrong that should not have ({type(error).__name__})"
    try:
        log = _log_file()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            trace = "".join(traceback.format_exception(error))
            file.write(_without_secrets(f"{options.system_clock().isoformat()} {' '.join(arguments)}\n{trace}\n"))
    except OSError as trouble:
        return f"{sentence}, and no log could be written ({trouble})."
    return f"{sentence}. The details are in {log}"


def _log_file() -> Path:
    from orcost_pipeline.settings import load_settings

    try:
        home = load_settings().home
    except OrcostError:
        home = Path(".orcost").resolve()
    return home / "logs" / "orcost.log"


def _without_secrets(text: str) -> str:
    return re.sub(r"sk-or-(?!v1-…)[\w-]+", "sk-or-…", re.sub(r"(://[^:/@\s]*):\S+@", r"\1:…@", text))
