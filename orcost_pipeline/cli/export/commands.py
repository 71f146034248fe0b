"""Commands of `orcost export`: costs as files for spreadsheets, data tools and FinOps platforms."""

from enum import StrEnum
from typing import Annotated

import typer

from orcost_pipeline.cli import options
from orcost_pipeline.cli.options import Output, group

export_group = group("Costs as files: csv, xlsx, parquet, json, FOCUS.")


class Grain(StrEnum):
    DAY = "day"
    HOUR = "hour"


class SpendFormat(StrEnum):
    CSV = "csv"
    XLSX = "xlsx"
    PARQUET = "parquet"
    JSON = "json"


class FocusFormat(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"


class FocusVersion(StrEnum):
    V1_2 = "1.2"
    V1_4 = "1.4"


Start = Annotated[str, typer.Option("--from", metavar="DATE", help="First UTC day: 2026-11-01.")]
End = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Exclusive end; default: now.")]


@export_group.command("spend")
def export_spend(
    context: typer.Context,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="First UTC day: 2026-11-01; with --grain hour also an hour.")
    ],
    end: End = None,
    grain: Annotated[Grain, typer.Option(help="One row for each day, or for each hour.")] = Grain.DAY,
    company: Annotated[str | None, typer.Option(metavar="NAME", help="Only this company.")] = None,
    output_format: Annotated[SpendFormat, typer.Option("--format", help="All but xlsx are exact.")] = SpendFormat.CSV,
    output: Output = None,
) -> None:
    """Spend by company, key and model, with all that is known of them.

    The columns of marts.spend_daily, or with --grain hour of marts.spend_hourly.
    """
    from orcost_pipeline.cli.export import export as work

    target = work.Target(output_format.value, output)
    work.spend(options.settings(), grain.value, start, end, company, target, options.now(context))


@export_group.command("focus")
def export_focus(
    context: typer.Context,
    start: Start,
    end: End = None,
    version: Annotated[FocusVersion, typer.Option(help="Version of FOCUS.")] = FocusVersion.V1_2,
    output_format: Annotated[FocusFormat, typer.Option("--format", help="Both are exact.")] = FocusFormat.CSV,
    output: Output = None,
) -> None:
    """Daily spend as FOCUS, the FinOps Open Cost and Usage Specification.

    Usage is billed as OpenRouter deducts it from the credits, not as credits are bought.
    """
    from orcost_pipeline.cli.export import export as work

    target = work.Target(output_format.value, output)
    work.focus(options.settings(), version.value, start, end, target, options.now(context))
