"""What each chart has to show, computed from the warehouse's finest relations and in decimals, not from the relations
that the dashboard asks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

USD, SHARE, CHANGE, COUNT, PERCENT = ",.2f", ",.1%", "+,.1%", ",.0f", ",.0%"
Row = dict[str, Any]
Sums = dict[tuple[Any, ...], Decimal]


@dataclass(frozen=True)
class Chart:
    """What a chart shows: its columns in order with their formats (None: text), its rows, and their total."""

    columns: dict[str, str | None]
    rows: list[Row]
    totals: Row | None = None
    has_text: bool = True  # bars are drawn, so that only what they were sent can be read


@dataclass(frozen=True)
class Warehouse:
    """What the figures are computed from, as read in one transaction."""

    as_of: datetime
    spend: list[Row]
    days: list[Row]
    budgets: list[Row]
    to_come: list[Row]


def read(url: str) -> Warehouse:
    """Everything of a demo's warehouse: one account, a year of days."""
    with psycopg.connect(url, row_factory=dict_row) as session:
        session.execute("set transaction isolation level repeatable read read only")

        def rows(query: str) -> list[Row]:
            return session.execute(query.encode()).fetchall()

        spend = rows("select *, credits_usd + byok_usd as usd from core.spend_daily")
        for row in spend:
            row["api_key"] = f"{row['key_name']} · {row['key_hash'][:4]}" if row["key_hash"] else "(no key)"
        return Warehouse(
            rows("select min(as_of) as as_of from ref.account")[0]["as_of"],
            spend,
            rows(
                "select day, status, cause, account_credits_usd + account_byok_usd as account_usd, "
                "keys_credits_usd + keys_byok_usd as keys_usd from marts.reconciliation_daily"
            ),
            rows("select month, company, budget_usd from marts.company_budget_monthly"),
            rows(
                "select month, company, forecast_usd - spent_usd as usd from core.company_forecast "
                "join ref.company using (company_id) where is_newest"
            ),
        )


def month_of(day: date) -> tuple[date, date]:
    """The month of a day: its first day, and that of the next."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def charts(
    warehouse: Warehouse, first: date, end: date, company: str | None = None, *, has_account: bool = False
) -> dict[str, Chart]:
    """Title → what the chart shows for a whole month [first, end), and for one company where one was clicked.

    The click leaves the table of companies as it is, and what is the account's. Budgets have no account.
    """
    if has_account:
        warehouse = replace(warehouse, budgets=[])
    whole = _Range(warehouse, first, end, None)
    chosen = _Range(warehouse, first, end, company)
    return {**_headline(chosen), **_who(whole, chosen), **_on_what(chosen), **_trust(whole), **_nobodys(chosen)} | {
        "Unattributed share, %": _figure("unattributed_share", SHARE, chosen.unattributed_share())
    }


class _Range:
    """The spend of a month, beside what it is compared with."""

    def __init__(self, warehouse: Warehouse, first: date, end: date, company: str | None) -> None:
        def is_chosen(row: Row) -> bool:
            return company is None or row["company"] == company

        today = warehouse.as_of.astimezone(UTC).date()
        self.warehouse = warehouse
        self.spend = [row for row in warehouse.spend if first <= row["day"] < end and is_chosen(row)]
        self.days = [row for row in warehouse.days if first <= row["day"] < end]
        self.budgets = [row for row in warehouse.budgets if row["month"] == first and is_chosen(row)]
        self.to_come = [row for row in warehouse.to_come if row["month"] == first and is_chosen(row)]
        before, _ = month_of(first - timedelta(days=1))
        # Finished days of this month, and the days before that they are compared with.
        finished = [day for day in _days(first, end) if day < today]
        counterparts = {day for day in _days(before, first) if _a_month_later(day, end) in finished}
        self.compared = [row for row in self.spend if row["day"] in finished]
        self.earlier = [row for row in warehouse.spend if row["day"] in counterparts and is_chosen(row)]

    def compare(self, keys: Sequence[str]) -> list[Row]:
        """One row for each value of the columns: spend, spend a month earlier, change."""
        spend, earlier, compared = (
            sums_by(rows, keys, lambda row: row["usd"]) for rows in (self.spend, self.earlier, self.compared)
        )
        return [
            {
                **dict(zip(keys, group, strict=True)),
                "spend_usd": spend.get(group, Decimal(0)),
                "earlier_usd": earlier.get(group),
                "change": _change(compared.get(group), earlier.get(group)),
            }
            for group in spend.keys() | earlier.keys()
        ]

    def companies(self) -> list[Row]:
        budgets = sums_by(self.budgets, ["company"], lambda row: row["budget_usd"])
        to_come = sums_by(self.to_come, ["company"], lambda row: row["usd"])
        rows = self.compare(["company"])
        for row in rows:
            group = (row["company"],)
            _with_budget(row, row["spend_usd"] + to_come.get(group, Decimal(0)), budgets.get(group))
        return rows

    def total(self) -> Row:
        rows = self.compare([])
        spent = rows[0] if rows else {"spend_usd": Decimal(0), "earlier_usd": None, "change": None}
        budget = sum(row["budget_usd"] for row in self.budgets) if self.budgets else None
        return _with_budget(spent, spent["spend_usd"] + sum(row["usd"] for row in self.to_come), budget)

    def unattributed_share(self) -> Decimal:
        unattributed = sum(row["usd"] for row in self.spend if row["company"] == "Unattributed")
        return unattributed / sum(row["usd"] for row in self.spend)


def _headline(chosen: _Range) -> dict[str, Chart]:
    total = chosen.total()
    return {
        "Spend, USD": _figure("total_usd", USD, total["spend_usd"]),
        "Change on a month earlier, %": _figure("change", CHANGE, total["change"]),
        "Forecast of the month, USD": _figure("forecast_usd", USD, total["forecast_usd"]),
        "Budget, USD": _figure("budget_usd", USD, total["budget_usd"]),
    }


def _who(whole: _Range, chosen: _Range) -> dict[str, Chart]:
    columns = {"spend_usd": USD, "earlier_usd": USD, "change": CHANGE}
    plan = {"forecast_usd": USD, "budget_usd": USD, "forecast_of_budget": PERCENT}
    by_day = sums_by(chosen.spend, ["day", "company"], lambda row: row["usd"])
    companies = sorted({company for _, company in by_day})
    days = [
        {"day": day, **{company: by_day.get((day, company)) for company in companies}}
        for day in sorted({day for day, _ in by_day})
    ]
    return {
        "Companies: spend, change on a month earlier, forecast and budget, USD": Chart(
            {"company": None, **columns, **plan}, whole.companies(), whole.total()
        ),
        "Spend by day and company, USD": Chart(dict.fromkeys(["day", *companies]), days, has_text=False),
    }


def _on_what(chosen: _Range) -> dict[str, Chart]:
    models = sums_by(chosen.spend, ["model"], lambda row: row["usd"])
    columns = {"api_key": None, "company": None, "spend_usd": USD, "earlier_usd": USD, "change": CHANGE}
    return {
        "Models: spend, USD": Chart(
            {"model": None, "total_usd": None},
            [{"model": model, "total_usd": usd} for (model,), usd in models.items()],
            has_text=False,
        ),
        "API keys: spend and change on a month earlier, USD": Chart(columns, chosen.compare(["api_key", "company"])),
    }


def _trust(whole: _Range) -> dict[str, Chart]:
    as_of = whole.warehouse.as_of.astimezone(UTC)
    charged = sum(row["account_usd"] for row in whole.days)
    by_cause = {
        name: sums_by(whole.days, ["status", "cause"], value)
        for name, value in {
            "days": lambda row: Decimal(1),
            "account_usd": lambda row: row["account_usd"],
            "residual_usd": lambda row: row["account_usd"] - row["keys_usd"],
        }.items()
    }
    return {
        "Complete to, UTC": _figure("complete_to", "%d %b %Y, %H:%M", as_of),
        "Open days, number": _figure("open_days", COUNT, sum(row["status"] == "open" for row in whole.days)),
        "Difference, USD": _figure("difference_usd", USD, charged - sum(row["usd"] for row in whole.spend)),
        "OpenRouter's total by day: explained by API keys, and without a key, USD": Chart(
            {"day": None, "keys_usd": None, "residual_usd": None},
            [row | {"residual_usd": row["account_usd"] - row["keys_usd"]} for row in whole.days],
            has_text=False,
        ),
        "Days by status and cause, USD": Chart(
            {"status": None, "cause": None, "days": COUNT, "account_usd": USD, "residual_usd": USD},
            [
                {"status": status, "cause": cause, **{name: sums[status, cause] for name, sums in by_cause.items()}}
                for status, cause in by_cause["days"]
            ],
        ),
    }


def _nobodys(chosen: _Range) -> dict[str, Chart]:
    unattributed = [row for row in chosen.spend if row["company"] == "Unattributed"]
    usd, requests = (
        sums_by(unattributed, ["api_key"], lambda row, name=name: row[name]) for name in ("usd", "requests")
    )
    columns = {"requests": COUNT, "prompt_tokens": COUNT, "completion_tokens": COUNT}
    by_model = {
        name: sums_by(chosen.spend, ["model"], lambda row, name=name: row[name])
        for name in ("usd", *columns, "cached_tokens")
    }
    models = [
        {"model": group[0], **_tokens({name: sums[group] for name, sums in by_model.items()})}
        for group in by_model["usd"]
    ]
    return {
        "Unattributed: spend by API key, USD": Chart(
            {"api_key": None, "total_usd": USD, "requests": COUNT},
            [{"api_key": key[0], "total_usd": usd[key], "requests": requests[key]} for key in usd],
        ),
        "Models: spend in USD, requests, tokens, USD per million tokens": Chart(
            {"model": None, "total_usd": USD, **columns, "cached_share": PERCENT, "usd_per_million_tokens": USD},
            models,
            _tokens({name: sum(sums.values()) for name, sums in by_model.items()}),
        ),
    }


def _tokens(sums: dict[str, Any]) -> Row:
    tokens = sums["prompt_tokens"] + sums["completion_tokens"]
    return sums | {
        "total_usd": sums["usd"],
        "cached_share": sums["cached_tokens"] / sums["prompt_tokens"] if sums["prompt_tokens"] else None,
        "usd_per_million_tokens": 1_000_000 * sums["usd"] / tokens if tokens else None,
    }


def _figure(name: str, written: str, value: Any) -> Chart:
    return Chart({name: written}, [{name: value}])


def _with_budget(row: Row, forecast: Decimal, budget: Decimal | None) -> Row:
    row |= {"forecast_usd": forecast, "budget_usd": budget, "forecast_of_budget": forecast / budget if budget else None}
    return row


def _change(compared: Decimal | None, earlier: Decimal | None) -> Decimal | None:
    return compared / earlier - 1 if compared is not None and earlier else None


def sums_by(rows: Iterable[Row], keys: Sequence[str], value: Callable[[Row], Decimal]) -> Sums:
    """The sum of the values for each group of the columns."""
    sums: Sums = {}
    for row in rows:
        group = tuple(row[key] for key in keys)
        sums[group] = sums.get(group, Decimal(0)) + value(row)
    return sums


def _days(first: date, end: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((end - first).days)]


def _a_month_later(day: date, end: date) -> date:
    """The same day of the next month, which ends before `end`: its last day where it is shorter."""
    last = end - timedelta(days=1)
    return last.replace(day=min(day.day, last.day))
