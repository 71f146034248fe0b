"""Commands of billing: `orcost statement`, `orcost close` and `orcost reopen`."""

import re
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orcost_pipeline.cli import options
from orcost_pipeline.cli.options import group

billing_group = group("Statements of companies.")

WORKBOOKS = frozenset({".xlsx", ".xls", ".ods"})
FILES = WORKBOOKS | {".pdf", ".html", ".csv", ".json"}


class StatementFormat(StrEnum):
    HTML = "html"
    CSV = "csv"
    JSON = "json"


def _month(text: str) -> date:
    """The first day of a UTC month written YYYY-MM; raises typer.BadParameter for anything else."""
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not a month such as 2026-10.")
    return date.fromisoformat(f"{text}-01")


Month = Annotated[date, typer.Argument(parser=_month, metavar="MONTH", help="UTC month: 2026-10.")]
Company = Annotated[str | None, typer.Option(metavar="NAME", help="Only for this company.")]


@billing_group.command("statement")
def statement_command(
    context: typer.Context,
    month: Annotated[date, typer.Option(parser=_month, metavar="YYYY-MM", help="UTC month.")],
    company: Annotated[str | None, typer.Argument(metavar="[COMPANY]", help="Company name as in reports.")] = None,
    is_for_all: Annotated[
        bool, typer.Option("--all", help="A file for each company that has something in the month.")
    ] = False,
    form: Annotated[
        StatementFormat | None,
        typer.Option("--format", help="html is a page to print; csv and json are exact. Default: by PATH's ending."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File, with --all a folder; default for one company: standard output."),
    ] = None,
) -> None:
    """What a company owes for a month, by key and model."""
    from orcost_pipeline.cli.billing import statements

    now = options.now(context)
    if is_for_all:
        if company is not None:
            raise typer.BadParameter("--all is for every company: leave out COMPANY.")
        if output is None:
            raise typer.BadParameter("--all writes a file for each company: name a folder with --output.")
        if output.suffix.lower() in FILES and not output.is_dir():
            raise typer.BadParameter(f"--all writes a file for each company: {output.name} looks like a single one.")
        statements.write_all(options.settings(), month, (form or StatementFormat.HTML).value, output, now)
        return
    if company is None:
        raise typer.BadParameter("Name a COMPANY, or give --all.")
    statements.write_one(options.settings(), company, month, (form or _named(output)).value, output, now)


def _named(output: Path | None) -> StatementFormat:
    """The format that the ending of a file names; raises typer.BadParameter for a PDF or a workbook, which none is."""
    ending = output.suffix.removeprefix(".").lower() if output is not None else ""
    if ending == "pdf":
        raise typer.BadParameter("No PDF is written: write a page (.html), and print it to PDF from a browser.")
    if f".{ending}" in WORKBOOKS:
        raise typer.BadParameter("No workbook is written: write .csv, which spreadsheets open.")
    return StatementFormat(ending) if ending in set(StatementFormat) else StatementFormat.HTML


@billing_group.command("close")
def close_command(
    context: typer.Context,
    month: Month,
    company: Company = None,
    accepts_open: Annotated[
        bool,
        typer.Option(
            "--accept-open",
            help="Also where days do not reconcile, usage is known in part, or an account is no longer configured.",
        ),
    ] = False,
    with_earlier: Annotated[
        bool, typer.Option("--with-earlier", help="Before it, each earlier month that is open, the oldest first.")
    ] = False,
) -> None:
    """Close a month: its statements no longer change.

    Later changes are charged as an adjustment in the next open month.
    """
    from orcost_pipeline.cli.billing import months

    months.close(
        options.settings(), month, company, options.now(context), accepts_open=accepts_open, with_earlier=with_earlier
    )


@billing_group.command("reopen")
def reopen_command(
    context: typer.Context,
    month: Month,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")],
    company: Company = None,
) -> None:
    """Open a closed month again: its statements are computed anew."""
    from orcost_pipeline.cli.billing import months

    months.reopen(options.settings(), month, company, reason, options.now(context))
