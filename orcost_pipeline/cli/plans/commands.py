"""Commands of `orcost plans`: what companies are charged for their usage."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from orcost_pipeline.cli import options
from orcost_pipeline.cli.options import TableOrJson, group, utc_day

plans_group = group("The price plans: what companies are charged for their usage.")


@plans_group.command("check")
def check_plans(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Default: the project's price plans.")] = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="json is exact.")] = TableOrJson.TABLE,
) -> None:
    """Whether price plans are valid, and what they would change.

    Needs no warehouse, and loads nothing. Exits 0 only for price plans that would be accepted.
    """
    from orcost_pipeline.cli.plans import check as work

    work.check(options.settings(), file, output.value, options.now(context))


@plans_group.command("explain")
def explain_plans(
    company: Annotated[str, typer.Argument(metavar="COMPANY", help="A company.")],
    day: Annotated[date, typer.Option(parser=utc_day, metavar="DATE", help="UTC day.")],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Default: every model that the company used that day.")
    ] = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """Why a company is charged as it is: which rows hold on a day."""
    from orcost_pipeline.cli.plans import explain as work

    work.explain(options.settings(), company, day, model, output.value)


@plans_group.command("init")
def init_plans(context: typer.Context) -> None:
    """Write a price_plans.csv of comments, to begin with.

    Has a line for each company, without effect until it is edited. Never replaces a file.
    """
    from orcost_pipeline.cli.plans import starter as work

    work.init(options.settings(), options.now(context))
