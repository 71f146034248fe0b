"""What each chart has to show, computed from the warehouse's finest relations and in decimals, not from the relations
that the dashboard asks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

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


class Plan(NamedTuple):
    """A row of the price plans, as in the file: for one company or all (*), and for one model or all (None)."""

    company: str
    charge: str
    value: Decimal
    model: str | None = None


# The price plans of the proof. For each company, charge and model the first row holds.
PLANS = (
    Plan("Company A", "monthly_fee_usd", Decimal(49)),
    Plan("Company A", "byok_percent", Decimal(4)),
    Plan("Company B", "markup_percent", Decimal("22.5"), "openai/gpt-4.1-2025-04-14"),
    Plan("Company C", "monthly_minimum_usd", Decimal(250)),
    Plan("Agency", "markup_percent", Decimal(0)),
    Plan("*", "markup_percent", Decimal(15)),
    Plan("Agency", "credit_purchase_percent", Decimal(0)),
    Plan("*", "credit_purchase_percent", Decimal("5.5")),
)


@dataclass(frozen=True)
class Warehouse:
    """What the figures are computed from, as read in one transaction."""

    as_of: datetime
    spend: list[Row]
    days: list[Row]
    budgets: list[Row]
    to_come: list[Row]
    closed: set[date]


def read(url: str) -> Warehouse:
    """Everything of a demo's warehouse: one account, a year of days."""
    with psycopg.connect(url, row_factory=dict_row) as session:
        session.execute("set transaction isolation level repeatable read read only")

        def rows(query: str) -> list[Row]:
            return session.execute(query.encode()).fetchall()

        spend = rows("select *, credits_usd + byok_usd as usd from core.spend_daily")
        for row in spend:
            row["api_key"] = f"{row['key_name']} · {row['key_hash'][:4]}" if row["key_hash"] else "(no key)"
            row["charge_usd"] = _charge(row)
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
            {row["month"] for row in rows("select distinct month from core.closed_month")},
        )


def month_of(day: date) -> tuple[date, date]:
    """The month of a day: its first day, and that of the next."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def charts(
    warehouse: Warehouse,
    first: date,
    end: date,
    company: str | None = None,
    key: str | None = None,
    *,
    has_account: bool = False,
) -> dict[str, Chart]:
    """Title → what the chart shows for a whole month [first, end), and for a clicked company and key (its name).

    A click leaves the chart that was clicked as it is, and what is the account's. A click on a key also leaves what
    companies are compared with, and what is charged for months. Budgets have no account, charges for months have all.
    """
    if has_account:
        warehouse = replace(warehouse, budgets=[])
    whole, chosen = (_Month(warehouse, first, end, only) for only in (None, company))
    of_company, of_key = (spend_of(warehouse, first, end, company, only) for only in (None, key))
    return {
        **_headline(chosen, of_key),
        **_charged(chosen),
        **_who(whole, of_key),
        **_charges(chosen, of_key),
        **_on_what(of_company, of_key),
        **_trust(whole, of_key),
        **_unattributed_charts(of_key),
    }


def spend_of(
    warehouse: Warehouse, first: date, end: date, company: str | None = None, key: str | None = None
) -> list[Row]:
    """The spend of the days [first, end), of one company and of keys with one name where they are given."""
    return [
        row
        for row in warehouse.spend
        if first <= row["day"] < end and company in (None, row["company"]) and key in (None, row["key_name"])
    ]


class _Month:
    """The spend of companies in a month, beside what it is compared with."""

    def __init__(self, warehouse: Warehouse, first: date, end: date, company: str | None) -> None:
        self.warehouse = warehouse
        self.first = first
        self.status = "closed" if first in warehouse.closed else "open"
        self.spend = spend_of(warehouse, first, end, company)
        self.days = [row for row in warehouse.days if first <= row["day"] < end]
        self.budgets, self.to_come = (
            [row for row in rows if row["month"] == first and company in (None, row["company"])]
            for rows in (warehouse.budgets, warehouse.to_come)
        )
        # Finished days of this month, and the days before that they are compared with.
        today = warehouse.as_of.astimezone(UTC).date()
        before, _ = month_of(first - timedelta(days=1))
        finished = {day for day in _days(first, end) if day < today}
        counterparts = {day for day in _days(before, first) if _a_month_later(day, end) in finished}
        self.compared = [row for row in self.spend if row["day"] in finished]
        self.earlier = [row for row in spend_of(warehouse, before, first, company) if row["day"] in counterparts]

    def companies(self) -> list[Row]:
        """One row per company, as the table shows it."""
        sums = [
            sums_by(rows, ["company"], lambda row: row["usd"])
            for rows in (self.spend, self.compared, self.earlier, self.to_come)
        ]
        budgets = sums_by(self.budgets, ["company"], lambda row: row["budget_usd"])
        return [
            {"company": group[0], **_beside(*(of.get(group) for of in sums), budgets.get(group))}
            for group in sums[0].keys() | sums[2].keys() | budgets.keys()
        ]

    def charges(self) -> list[Row]:
        """One row per company: its cost, what it is charged for the month, and the margin."""
        return [
            {"month": self.first, "company": company, "status": self.status, **_charged_for(company, rows)}
            for company, rows in _by_company(self.spend).items()
        ]

    def total(self) -> Row:
        """All of it."""
        sums = (_total(rows, "usd") for rows in (self.spend, self.compared, self.earlier, self.to_come))
        return _beside(*sums, _total(self.budgets, "budget_usd"))


def _headline(chosen: _Month, spend: list[Row]) -> dict[str, Chart]:
    total = chosen.total()
    return {
        "Spend, USD": _figure("total_usd", USD, _total(spend, "usd")),
        "Change on a month earlier, %": _figure("change", CHANGE, total["change"]),
        "Forecast of the month, USD": _figure("forecast_usd", USD, total["forecast_usd"]),
        "Budget, USD": _figure("budget_usd", USD, total["budget_usd"]),
    }


def _who(whole: _Month, spend: list[Row]) -> dict[str, Chart]:
    columns = {"spend_usd": USD, "earlier_usd": USD, "change": CHANGE}
    plan = {"forecast_usd": USD, "budget_usd": USD, "forecast_of_budget": PERCENT}
    by_day = sums_by(spend, ["day", "company"], lambda row: row["usd"])
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


def _charged(chosen: _Month) -> dict[str, Chart]:
    charges = chosen.charges()
    companies = [row for row in charges if row["company"] != "Unattributed"]
    uncharged = [row for row in charges if row["company"] == "Unattributed"]
    return {
        "Charged, USD": _figure("charged_usd", USD, _total(charges, "charged_usd")),
        "Margin of companies, USD": _figure("companies_margin_usd", USD, _total(companies, "margin_usd") or Decimal(0)),
        "Cost of Unattributed, USD": _figure("unattributed_usd", USD, _total(uncharged, "credits_usd") or Decimal(0)),
        "Margin after Unattributed, USD": _figure("margin_usd", USD, _total(charges, "margin_usd")),
    }


def _charges(chosen: _Month, spend: list[Row]) -> dict[str, Chart]:
    charges = chosen.charges()
    names = ("credits_usd", "byok_usd", "charged_usd", "margin_usd")
    of_companies = [row for row in spend if row["company"] != "Unattributed"]
    charged, cost = (
        sums_by(of_companies, ["day"], lambda row, name=name: row[name]) for name in ("charge_usd", "credits_usd")
    )
    return {
        "Charge and margin by company and month, USD": Chart(
            {"month": "%Y-%m", "company": None, "status": None, **dict.fromkeys(names, USD)},
            charges,
            {name: _total(charges, name) for name in names},
        ),
        "Companies by day: charged for usage, and credits, USD": Chart(
            {"day": None, "charge_usd": None, "credits_usd": None},
            [{"day": day, "charge_usd": charged[day,], "credits_usd": usd} for (day,), usd in cost.items()],
            has_text=False,
        ),
    }


def _on_what(of_company: list[Row], of_key: list[Row]) -> dict[str, Chart]:
    columns = {"total_usd": USD, "requests": COUNT, "prompt_tokens": COUNT, "completion_tokens": COUNT}
    return {
        "Models: spend, USD": Chart({"model": None, "total_usd": None}, _measured(of_key, ["model"]), has_text=False),
        "API keys: spend in USD, requests, tokens": Chart(
            {"api_key": None, "company": None, **columns}, _measured(of_company, ["api_key", "company"])
        ),
    }


def _trust(whole: _Month, spend: list[Row]) -> dict[str, Chart]:
    as_of = whole.warehouse.as_of.astimezone(UTC)
    charged = _total(whole.days, "account_usd") or 0
    unattributed = _total([row for row in spend if row["company"] == "Unattributed"], "usd") or 0
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
        "Difference, USD": _figure("difference_usd", USD, charged - (_total(whole.spend, "usd") or 0)),
        "Unattributed share, %": _figure("unattributed_share", SHARE, _ratio(unattributed, _total(spend, "usd"))),
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


def _unattributed_charts(spend: list[Row]) -> dict[str, Chart]:
    unattributed = [row for row in spend if row["company"] == "Unattributed"]
    shares = {"cached_share": PERCENT, "usd_per_million_tokens": USD}
    columns = {"total_usd": USD, "requests": COUNT, "prompt_tokens": COUNT, "completion_tokens": COUNT, **shares}
    (total,) = _measured(spend, [])
    return {
        "Unattributed: spend by API key, USD": Chart(
            {"api_key": None, "total_usd": USD, "requests": COUNT}, _measured(unattributed, ["api_key"])
        ),
        "Models: spend in USD, requests, tokens, USD per million tokens": Chart(
            {"model": None, **columns}, _measured(spend, ["model"]), total
        ),
    }


def _measured(spend: list[Row], keys: Sequence[str]) -> list[Row]:
    """One row for each value of the columns: measures, and what is derived from them."""
    names = ("usd", "requests", "prompt_tokens", "completion_tokens", "cached_tokens")
    sums = {name: sums_by(spend, keys, lambda row, name=name: row[name]) for name in names}
    return [
        {**dict(zip(keys, group, strict=True)), **_derived({name: of[group] for name, of in sums.items()})}
        for group in sums["usd"]
    ]


def _derived(sums: Row) -> Row:
    return sums | {
        "total_usd": sums["usd"],
        "cached_share": _ratio(sums["cached_tokens"], sums["prompt_tokens"]),
        "usd_per_million_tokens": _ratio(1_000_000 * sums["usd"], sums["prompt_tokens"] + sums["completion_tokens"]),
    }


def _charge(row: Row) -> Decimal:
    """What the usage of a row is charged at."""
    if row["company"] == "Unattributed":
        return Decimal(0)
    markup, byok = (_planned(row["company"], charge, row["model"]) for charge in ("markup_percent", "byok_percent"))
    return row["credits_usd"] * (1 + markup / 100) + row["byok_usd"] * byok / 100


def _charged_for(company: str, spend: list[Row]) -> Row:
    """A month of a company that has spend in it."""
    cost, byok, usage = (sum(row[name] for row in spend) for name in ("credits_usd", "byok_usd", "charge_usd"))
    of_month = ("monthly_fee_usd", "monthly_minimum_usd", "credit_purchase_percent")
    fee, minimum, purchase = (
        Decimal(0) if company == "Unattributed" else _planned(company, charge) for charge in of_month
    )
    purchase_fee = cost * purchase / 100
    charged = max(usage, minimum) + fee + purchase_fee
    margin = charged - cost - purchase_fee
    return {"credits_usd": cost, "byok_usd": byok, "charged_usd": charged, "margin_usd": margin}


def _planned(company: str, charge: str, model: str | None = None) -> Decimal:
    """The value of the first row that holds; 0 without one."""
    found = (it for it in PLANS if it.charge == charge and it.company in (company, "*") and it.model in (None, model))
    return next((it.value for it in found), Decimal(0))


def _by_company(spend: list[Row]) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for row in spend:
        rows.setdefault(row["company"], []).append(row)
    return rows


def _beside(
    spend: Decimal | None,
    compared: Decimal | None,
    earlier: Decimal | None,
    to_come: Decimal | None,
    budget: Decimal | None,
) -> Row:
    """Spend of a month beside what it is compared with."""
    forecast = (spend or 0) + (to_come or 0)
    # A company that spent nothing spent 100 % less.
    change = _ratio(compared or Decimal(0), earlier)
    return {
        "spend_usd": spend or Decimal(0),
        "earlier_usd": earlier,
        "change": None if change is None else change - 1,
        "forecast_usd": forecast,
        "budget_usd": budget,
        "forecast_of_budget": _ratio(forecast, budget),
    }


def _ratio(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    return part / whole if part is not None and whole else None


def _total(rows: list[Row], name: str) -> Decimal | None:
    """Their sum; None of no rows, as in SQL."""
    return sum(row[name] for row in rows) if rows else None


def _figure(name: str, written: str, value: Any) -> Chart:
    return Chart({name: written}, [{name: value}])


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
