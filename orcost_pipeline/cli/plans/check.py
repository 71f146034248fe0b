"""`orcost plans check`: whether the price plans are valid, warnings about them, and what they would change.

Loads nothing. Without a warehouse there is no preview, and a sentence says why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import typer
from rich.console import RenderableType
from rich.text import Text

from orcost_pipeline.billing.preview import Effect, plan_effect
from orcost_pipeline.billing.price_plans import PricePlans, PricePlansError, read_price_plans
from orcost_pipeline.cli.files import content_of
from orcost_pipeline.cli.rendering import MOST_ROWS, as_json, cells, left_out, mistakes_data, say, show, table
from orcost_pipeline.companies.preview import exact_sum
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.errors import OrcostError, PermanentError
from orcost_pipeline.formats import as_rounded, money_places, rounded
from orcost_pipeline.measures import EXACT
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import synced
from orcost_pipeline.sync.mapping_source import read_companies, valid_mapping
from orcost_pipeline.sync.plans import not_charged, plan_doubts, read_plans
from orcost_pipeline.sync.sources import UnreadableSourceError
from orcost_pipeline.text import few, listed, plural, quoted, short
from orcost_pipeline.warehouse.access import database_snapshot, snapshot
from orcost_pipeline.warehouse.opening import NOTHING_YET
from orcost_pipeline.warehouse.questions.plans import plan_version_in_force

MISSING = "Give the path of the price plans, or begin a file: orcost plans init"


@dataclass(frozen=True)
class Preview:
    """The charges of months before and after, doubts, and whether the plans are loaded already; `left_out` says why
    there is no preview. `uncharged` are the accounts that are not charged by what is loaded."""

    effects: Sequence[Effect] = ()
    doubts: Sequence[Mistake] = ()
    left_out: str | None = None
    is_loaded: bool = False
    uncharged: Sequence[str] = ()

    @property
    def is_in_force(self) -> bool:
        """Whether every account is charged by the plans."""
        return self.is_loaded and not self.uncharged

    @property
    def moved(self) -> list[Effect]:
        """The months and companies that would be charged something else."""
        return [it for it in self.effects if it.before_usd != it.after_usd]


def check(settings: Settings, file: Path | None, output: str, now: datetime) -> None:
    """Prints that price plans are valid, their warnings, and what they would change, as `table` or `json`.

    `file` is a file to check instead of the project's price plans. Raises PermanentError with all mistakes.
    """
    source = str(file) if file else settings.price_plans.name
    try:
        plans = read_price_plans(content_of(file, MISSING), source) if file else _project_plans(settings)
    except PricePlansError as error:
        if output == "json":
            typer.echo(as_json({"source": source, "is_valid": False, "mistakes": mistakes_data(error.mistakes)}))
        raise PermanentError(str(error)) from None
    preview = _preview(settings, plans, now)
    warnings = sorted([*plans.warnings, *preview.doubts], key=lambda warning: warning.line or 0)
    if output == "json":
        typer.echo(as_json(_as_data(plans, preview, warnings)))
        return
    companies = plural(len(_companies(plans)), "company", "companies")
    say(f"{plans.source} is valid: {plural(len(plans.rows), 'row')}, {companies}.")
    for line in few([f"warning, {warning}" for warning in warnings]):
        say(f"  {line}")
    show("", *_parts(preview))
    say(_next(settings, file, preview))


def _project_plans(settings: Settings) -> PricePlans:
    """The price plans as written now; raises PricePlansError for invalid ones, PermanentError for unreadable ones."""
    try:
        return read_plans(settings, lambda: database_snapshot(settings))
    except UnreadableSourceError as error:
        if not error.is_missing:
            raise
        raise PermanentError(f"{settings.price_plans.path} is not there. {MISSING}") from None


def _preview(settings: Settings, plans: PricePlans, now: datetime) -> Preview:
    """What the plans would change. Never raises for a warehouse that is missing or cannot be read."""
    companies, _ = read_companies(settings)
    try:
        mapping = valid_mapping(settings, lambda: database_snapshot(settings))
        with snapshot(settings) as connection:
            if not synced(connection, settings):
                return Preview(left_out=NOTHING_YET)
            doubts = plan_doubts(connection, plans.rows, mapping, companies, now)
            version = plan_version_in_force(connection)
            is_loaded = version is not None and version.content_sha256 == plans.sha256
            effects, uncharged = plan_effect(connection, plans.rows), not_charged(settings, connection)
            return Preview(effects, doubts, is_loaded=is_loaded, uncharged=uncharged)
    except OrcostError as error:
        return Preview(left_out=str(error))


def _companies(plans: PricePlans) -> set[str]:
    return {row.company for row in plans.rows}


# Output


def _next(settings: Settings, file: Path | None, preview: Preview) -> str:
    """Whether the plans are in force, and what brings them there."""
    own = settings.price_plans
    if preview.is_in_force:
        return "They are in force."
    if preview.is_loaded:
        accounts = listed(quoted(it) for it in preview.uncharged)
        return f"They are loaded, but usage of {accounts} is not charged by them yet. Next: orcost sync"
    if file is None or (own.table is None and file.resolve() == own.path.resolve()):
        return "They are not in force yet. Next: orcost sync"
    return f"They are not in force: syncs read {own.name}. Next: put them there, then: orcost sync"


def _as_data(plans: PricePlans, preview: Preview, warnings: Sequence[Mistake]) -> dict[str, object]:
    return {
        "source": plans.source,
        "is_valid": True,
        "rows": len(plans.rows),
        "companies": len(_companies(plans)),
        "is_in_force": preview.is_in_force,
        "warnings": mistakes_data(warnings),
        "preview": None if preview.left_out else [effect._asdict() for effect in preview.moved],
        "preview_left_out": preview.left_out,
    }


def _parts(preview: Preview) -> Iterator[RenderableType]:
    """A table of what changes by month and company, then the sum."""
    moved = preview.moved
    if preview.left_out:
        yield Text(f"No preview of what they would change: {preview.left_out}", style="yellow")
    elif not moved:
        yield Text("If they take effect, no charge changes.", style="bold")
    else:
        yield Text("If they take effect, charges change, in USD:", style="bold")
        drawn = table("  Month", "Company", "Before", "After", "Change", right=["Before", "After", "Change"])
        places = money_places(amount for it in moved for amount in (it.before_usd, it.after_usd))
        # Changes and sums are of the amounts as shown, so that they add up.
        before = [as_rounded(it.before_usd, places) for it in moved]
        after = [as_rounded(it.after_usd, places) for it in moved]
        for it, was, becomes in [*zip(moved, before, after, strict=True)][:MOST_ROWS]:
            amounts = [rounded(amount, places) for amount in (was, becomes, EXACT.subtract(becomes, was))]
            month = f"  {it.month:%Y-%m}{' (closed)' if it.is_closed else ''}"
            drawn.add_row(*cells(month, short(it.company), *amounts))
        yield drawn
        yield from left_out(len(moved), min(len(moved), MOST_ROWS), "--format json")
        yield Text(f"In all: {rounded(exact_sum(before), places)} → {rounded(exact_sum(after), places)} USD.")
        if any(it.is_closed for it in moved):
            yield Text("Changes to closed months are charged as adjustments in the next open month.")
