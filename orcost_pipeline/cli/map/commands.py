"""Commands of `orcost map`: the mapping from API keys to companies."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from orcost_pipeline.cli import options
from orcost_pipeline.cli.options import Account, CsvOrJson, Format, TableOrJson, group, utc_day

mapping_group = group("The mapping from API keys to companies.")


@mapping_group.command("check")
def check_mapping(
    file: Annotated[Path | None, typer.Argument(help="Default: the project's mapping.")] = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="json is exact.")] = TableOrJson.TABLE,
) -> None:
    """Whether a mapping is valid, and what it would move.

    Needs no warehouse, and loads nothing. Exits 0 only for a mapping that would be accepted.
    """
    from orcost_pipeline.cli.map import check as work

    work.check(options.settings(), file, output.value)


@mapping_group.command("suggest")
def suggest_mapping(
    output: Annotated[CsvOrJson, typer.Option("--format", help="json is exact.")] = CsvOrJson.CSV,
) -> None:
    """Rules for keys without an owner, ready to paste.

    Guessed from names of companies, keys and rules, workspaces and creators; the largest spend first.
    """
    from orcost_pipeline.cli.map import suggest as work

    work.suggest_rules(options.settings(), output.value)


@mapping_group.command("add")
def add_mapping(
    company: Annotated[str, typer.Argument(help="Company that the matching keys belong to.")],
    match: Annotated[str, typer.Argument(help="key_hash, key_name, workspace, creator, external_user or label.")],
    pattern: Annotated[str, typer.Argument(help="A glob, or a whole hash.")],
    share: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPANY=PERCENT", help="Another owner's part; COMPANY keeps the rest. May be repeated."),
    ] = None,
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="First UTC day; default: no start.")] = "",
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="First UTC day after it; default: no end.")] = "",
    account: Annotated[str, typer.Option(metavar="NAME", help="Only for keys of this account.")] = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="Reason, kept with the rule.")] = "",
    first: Annotated[bool, typer.Option("--first", help="Above the rules that take its keys now.")] = False,
    last: Annotated[bool, typer.Option("--last", help="Below them, even where they leave it no key.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
) -> None:
    """Add a rule to the file, after saying what it moves."""
    from orcost_pipeline.cli.map import add as work
    from orcost_pipeline.cli.rendering import question

    if first and last:
        raise typer.BadParameter("--first and --last exclude each other.")
    rule = {"match": match, "pattern": pattern, "account": account, "valid_from": start, "valid_to": end, "note": note}
    is_first = first if first or last else None
    work.add(options.settings(), company, share or (), rule, is_first=is_first, is_agreed=yes, ask=question())


@mapping_group.command("explain")
def explain_mapping(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="A key's name, its hash, or the hash's first 6 or more digits.")],
    at: Annotated[date | None, typer.Option(parser=utc_day, metavar="DATE", help="UTC day; default: today.")] = None,
    account: Account = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """Why a key belongs to its company: which rule wins."""
    from orcost_pipeline.cli.map import explain as work

    work.explain_key(options.settings(), key, at or options.now(context).date(), account, output.value)


@mapping_group.command("todo")
def todo_mapping(
    context: typer.Context,
    account: Account = None,
    output: Annotated[Format, typer.Option("--format", help="csv and json are exact.")] = Format.TABLE,
) -> None:
    """Keys without an owner, the most expensive first."""
    from orcost_pipeline.cli.map import todo as work

    work.todo(options.settings(), account, output.value, options.now(context))


@mapping_group.command("log")
def log_mapping(
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """Every version of the mapping that was in force."""
    from orcost_pipeline.cli.map import versions as work

    work.log(options.settings(), output.value)


@mapping_group.command("diff")
def diff_mapping(
    before: Annotated[int | None, typer.Argument(min=0, help="A version; default: the one before AFTER.")] = None,
    after: Annotated[int | None, typer.Argument(min=1, help="A later one; default: the newest.")] = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """Which rules changed from one version to another."""
    from orcost_pipeline.cli.map import versions as work

    work.diff(options.settings(), before, after, output.value)
