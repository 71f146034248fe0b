"""`orcost plans explain`: which rows of the price plans in force hold for a company on a day, and why others do not."""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import groupby

import typer
from rich.table import Table
from rich.text import Text

from orcost_pipeline.billing.explanation import Explanation
from orcost_pipeline.billing.explanation import explain as explained
from orcost_pipeline.cli.rendering import as_json, cells, left_out, say, show
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.companies.names import require_known
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.plans import not_charged, not_in_force
from orcost_pipeline.text import LONGEST_VALUE, MOST_ITEMS, listed, quoted, short
from orcost_pipeline.warehouse.access import database_snapshot, snapshot
from orcost_pipeline.warehouse.questions.billing import CompanyMonth, closed_months
from orcost_pipeline.warehouse.questions.charges import UsedModel, has_month_spend, models_of_company
from orcost_pipeline.warehouse.questions.explanation import company_names
from orcost_pipeline.warehouse.questions.plans import PlanRow, plan_rows

MONTHLY = "for the month"


def explain(settings: Settings, company: str, day: date, model: str | None, output: str) -> None:
    """Prints, for each model that a company used on a UTC day or for `model`, the rows that hold and the others.

    Raises PermanentError for an unknown company.
    """
    with snapshot(settings) as connection:
        require_known(company, company_names(connection))
        used = models_of_company(connection, company, day)
        if model is not None:
            used = [it for it in used if it.model == model] or [UsedModel(model)]
        rows = plan_rows(connection) if company != UNATTRIBUTED else ()
        has_spend = has_month_spend(connection, company, day.replace(day=1))
        edited = settings.price_plans.name in not_in_force(settings, connection, lambda: database_snapshot(settings))
        uncharged = not_charged(settings, connection)
        is_closed = CompanyMonth(day.replace(day=1), company) in closed_months(connection)
    found, models = explained(rows, company, used, day, has_spend=has_spend), [it.model for it in used]
    if output == "json":
        charges = [_as_data(it) for it in found]
        typer.echo(as_json({"company": company, "day": day, "models": models, "charges": charges}))
        return
    show(*_parts(company, day, models, found))
    if edited:
        say(f"{settings.price_plans.name} was changed since and is not in force yet. Next: orcost sync", is_error=True)
    if is_closed:
        say(f"{day:%Y-%m} is closed for it: its statement stays, and what is charged otherwise now is an adjustment.")
    if uncharged:
        accounts = listed(quoted(it) for it in uncharged)
        say(f"Usage of {accounts} is not charged by these rows yet. Next: orcost sync", is_error=True)


def _parts(company: str, day: date, models: Sequence[str], found: Sequence[Explanation]) -> Iterator[Text | Table]:
    yield Text(f"{short(company)} on {day}", style="bold")
    if company == UNATTRIBUTED:
        yield Text("  is never charged")
        return
    if not models:
        yield Text("  used no model on that day; for one of them all the same: --model MODEL")
    for model, of_model in groupby(found, key=lambda it: it.model):
        yield Text(f"\n{short(model, LONGEST_VALUE) if model is not None else MONTHLY}", style="bold")
        lines = [line for it in of_model for line in _lines(it)]
        if not lines:
            yield Text("  no row: charged at cost" if model is not None else "  no row: no fee and no minimum")
            continue
        drawn = Table.grid(padding=(0, 2))
        for line in lines[:MOST_ITEMS]:
            drawn.add_row("", *cells(*line))
        yield drawn
        yield from left_out(len(lines), MOST_ITEMS, "--format json")


def _lines(it: Explanation) -> Iterator[tuple[str, ...]]:
    """The row that holds, then the others of the charge with the reason why they do not."""
    if it.row:
        verdict = "holds" if it.applies else "holds back" if it.row.value is None else "beaten"
        reason = "no such charge" if it.row.value is None else it.overruled
        yield verdict, *_row(it.row), f"({reason})" if reason else _period(it.row)
    for other in it.considered:
        verdict = "beaten" if other.is_outranked else "not valid"
        yield verdict, *_row(other.row), f"({other.reason})"


def _row(row: PlanRow) -> tuple[str, ...]:
    value = "none" if row.value is None else f"{row.value:f}"
    charge = f"{row.charge}={short(value)}"
    return f"line {row.line}", charge, short(row.company), short(row.model or "", LONGEST_VALUE)


def _period(row: PlanRow) -> str:
    limits = f"from {row.valid_from}" if row.valid_from else "", f"until {row.valid_to}" if row.valid_to else ""
    return " ".join(filter(None, limits))


def _as_data(it: Explanation) -> dict[str, object]:
    considered = [{**_row_data(other.row), "reason": other.reason} for other in it.considered]
    return {
        "charge": it.charge,
        "model": it.model,
        "applies": it.applies,
        "row": _row_data(it.row) if it.row else None,
        "overruled": it.overruled,
        "considered": considered,
    }


def _row_data(row: PlanRow) -> dict[str, object]:
    return {
        "line": row.line,
        "company": row.company,
        "value": row.value,
        "model": row.model,
        "valid_from": row.valid_from,
        "valid_to": row.valid_to,
        "note": row.note,
    }
