"""What companies are charged, worked out slowly: cell by cell and day by day, in fractions, straight from the plans."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

from orcost_pipeline_tests.world import World

UNITS = ("prompt_usd_per_million", "completion_usd_per_million", "request_usd")
OF_USAGE = ("markup_percent", "byok_percent", *UNITS)
CELLS = """
    select account, day, company, key_hash, model, source, requests, prompt_tokens, completion_tokens, credits_usd,
        byok_usd
    from core.spend_daily
"""
Row = dict[str, Any]


@dataclass
class Month:
    """A company's month, in USD; `charges` are of usage."""

    credits: Fraction = Fraction(0)
    byok: Fraction = Fraction(0)
    charges: Fraction = Fraction(0)
    purchase: Fraction = Fraction(0)
    minimum: Fraction = Fraction(0)
    fee: Fraction = Fraction(0)
    has_spend: bool = False

    @property
    def total(self) -> Fraction:
        return self.charges + self.purchase + self.minimum + self.fee


@dataclass
class Charged:
    """Charges by account, day, company, key and model, each with the rows that held; and by month and company."""

    days: dict[tuple[Any, ...], tuple[Fraction, str]] = field(default_factory=dict)
    months: dict[tuple[date, str], Month] = field(default_factory=lambda: defaultdict(Month))


def charged(world: World, plans: Iterable[str], first: date, last: date) -> Charged:
    """What is charged by these rows (company,charge,value,model,valid_from,valid_to) from one month to another."""
    rows = [_row(text) for text in plans]
    found = Charged()
    for account, day, company, key, model, source, *amounts in world.rows(CELLS):
        requests, prompt, completion, cost, byok = (Fraction(amount) for amount in amounts)
        held = {charge: _held(rows, company, charge, day, model) for charge in (*OF_USAGE, "credit_purchase_percent")}
        applied: list[str] = []
        usd = Fraction(0)
        has_units = source != "counter" and any(held[unit] is not None for unit in UNITS)
        if not has_units:
            usd += cost
            if (percent := held["markup_percent"]) is not None:
                usd += cost * Fraction(percent) / 100
                applied.append("markup_percent")
        if (percent := held["byok_percent"]) is not None:
            usd += byok * Fraction(percent) / 100
            applied.append("byok_percent")
        if has_units:
            for unit, amount in zip(UNITS, (prompt / 10**6, completion / 10**6, requests), strict=True):
                if (price := held[unit]) is not None:
                    usd += amount * Fraction(price)
                    applied.append(unit)
        if company == "Unattributed":
            usd, applied = Fraction(0), []
        cell = (account, day, company, key, model)
        before = found.days.get(cell, (Fraction(0), ""))[0]
        found.days[cell] = (before + usd, "; ".join(f"{it}={held[it]}" for it in applied))
        month = found.months[day.replace(day=1), company]
        month.has_spend = True
        month.credits += cost
        month.byok += byok
        month.charges += usd
        if company != "Unattributed" and (percent := held["credit_purchase_percent"]) is not None:
            month.purchase += cost * Fraction(percent) / 100
    _add_monthly(found, rows, first, last)
    return found


def _add_monthly(found: Charged, rows: Sequence[Row], first: date, last: date) -> None:
    companies = {row["company"] for row in rows} | {company for _, company in found.months}
    month = first
    while month <= last:
        for company in companies - {"*", "Unattributed"}:
            has_spend = found.months[month, company].has_spend if (month, company) in found.months else False
            reached = [row for row in rows if row["company"] == company or has_spend]
            fee = _held(reached, company, "monthly_fee_usd", month, None)
            minimum = _held(reached, company, "monthly_minimum_usd", month, None)
            if fee is not None or minimum is not None or has_spend:
                it = found.months[month, company]
                it.fee = Fraction(fee or 0)
                it.minimum = max(Fraction(0), Fraction(minimum) - it.charges) if minimum is not None else Fraction(0)
        month = date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _row(text: str) -> Row:
    names = ("company", "charge", "value", "model", "valid_from", "valid_to")
    return dict(zip(names, [*text.split(","), *[""] * 6], strict=False))


def _held(rows: Iterable[Row], company: str, charge: str, day: date, model: str | None) -> str | None:
    """The value that holds, as written; None where none does."""
    for row in rows:
        if row["charge"] != charge or row["company"] not in (company, "*"):
            continue
        if row["model"] and not fnmatchcase(model or "", row["model"]):
            continue
        if (row["valid_from"] or "0000") <= day.isoformat() < (row["valid_to"] or "9999"):
            return None if row["value"] == "none" else row["value"]
    return None
