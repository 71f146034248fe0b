"""`orcost forecast`: what each company spends in a month, and the error of that forecast in earlier months."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from rich.table import Table
from rich.text import Text

from orcost_pipeline import formats
from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.rendering import MOST_ROWS, cells, left_out, show, table
from orcost_pipeline.cli.report import synced_accounts
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import UNKNOWN, money, rounded
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.budgets import forecasts
from orcost_pipeline.windows import utc_day

Row = dict[str, Any]


def forecast(settings: Settings, month: date | None, output: str, now: datetime) -> None:
    """Prints the forecast of a month (its first day; None: the month of the data) by company, as `table`, `csv` or
    `json`; amounts are USD of credits and BYOK.

    csv and json have a row for each company and each of four months, the three before included. Raises PermanentError
    where nothing was synced yet, or the month has not begun.
    """
    with snapshot(settings) as connection:
        as_of = max(it.as_of for it in synced_accounts(connection, settings, None))
        running = utc_day(as_of).replace(day=1)
        if month is not None and month > running:
            raise PermanentError(f"{month:%Y-%m} has not begun: data reaches to {as_of:%Y-%m-%d %H:%M} UTC.")
        answer = forecasts(connection, month)
    if output == "table":
        show(*_page(answer, month or running, as_of, now))
    else:
        (rendering.write_csv if output == "csv" else rendering.write_json)(answer)


def _page(answer: Rows, month: date, as_of: datetime, now: datetime) -> list[Any]:
    footer = Text(
        f"Spend is credits and BYOK. Forecast − actual of earlier months, as made on that day · "
        f"{formats.complete_to(as_of, now)}",
        style="bold yellow" if formats.is_stale(as_of, now) else "dim",
    )
    months = sorted({row["month"] for row in answer.rows}, reverse=True)
    companies: dict[str, dict[date, Row]] = {}
    for row in answer.rows:
        companies.setdefault(row["company"], {})[row["month"]] = row
    shown = {name: of for name, of in companies.items() if _is_worth_a_row(of[month])}
    if not shown:
        return [f"No spend is known in {month:%Y-%m}, and none is expected.", footer]
    made_on = next(iter(shown.values()))[month]["made_on"]
    head = f"Spend of {month:%Y-%m}, as forecast on {made_on}"
    more = left_out(len(shown), MOST_ROWS, "orcost forecast --format csv")
    return [head, "", _table(shown, months), *more, "", footer]


def _is_worth_a_row(row: Row) -> bool:
    return any(row[name] for name in ("spent_usd", "forecast_usd", "actual_usd", "budget_usd"))


def _table(companies: Mapping[str, Mapping[date, Row]], months: Sequence[date]) -> Table:
    month, *earlier = months
    rows = [of[month] for of in companies.values()]
    columns = {"Spent USD": "spent_usd", "Forecast USD": "forecast_usd"}
    columns |= {
        title: name
        for title, name in (("Actual USD", "actual_usd"), ("Budget USD", "budget_usd"))
        if any(row[name] is not None for row in rows)
    }
    errors = [f"{it:%Y-%m}" for it in earlier]
    drawn = table("Company", *columns, *errors, right=[*columns, *errors])
    amounts = {name: money([row[name] for row in rows]) for name in columns.values()}
    for company, of in list(companies.items())[:MOST_ROWS]:
        values = (amounts[name](of[month][name]) for name in columns.values())
        drawn.add_row(*cells(short(company), *values, *(_error(of[it]["error_percent"]) for it in earlier)))
    if len(companies) > 1:
        totals = {it: [of[it] for of in companies.values()] for it in months}
        sums = (amounts[name](column_total(totals[month], name)) for name in columns.values())
        drawn.add_row(*cells("Total", *sums, *(_error(_error_of_total(totals[it])) for it in earlier)), style="bold")
    return drawn


def column_total(rows: Sequence[Mapping[str, Any]], column: str) -> Decimal | None:
    """The sum of a column, None where a value is unknown; no budget adds nothing."""
    values = [row[column] for row in rows if row[column] is not None]
    return sum(values, Decimal(0)) if column == "budget_usd" or len(values) == len(rows) else None


def _error_of_total(rows: Sequence[Row]) -> Decimal | None:
    forecast_usd, actual_usd = column_total(rows, "forecast_usd"), column_total(rows, "actual_usd")
    return 100 * (forecast_usd - actual_usd) / actual_usd if forecast_usd is not None and actual_usd else None


def _error(percent: Decimal | None) -> str:
    """A forecast's error in percent of what the month cost: above 0 where the forecast was too high."""
    if percent is None:
        return UNKNOWN
    text = rounded(percent, 0)
    return f"{text} %" if text.startswith(("−", "0")) else f"+{text} %"
