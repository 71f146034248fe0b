"""What price plans that are not in force would charge: months by company, before and after."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.billing.prices import (
    EVERYBODY,
    MONTHLY,
    MONTHLY_FEE,
    MONTHLY_MINIMUM,
    Price,
    Used,
    holds_on,
    prices,
)
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.companies.preview import exact_sum
from orcost_pipeline.measures import EXACT
from orcost_pipeline.warehouse.questions.billing import CompanyMonth, closed_months
from orcost_pipeline.warehouse.questions.charges import (
    SpanUsage,
    charges_by_month,
    known_months,
    usage_by_span,
)
from orcost_pipeline.warehouse.questions.explanation import company_names
from orcost_pipeline.warehouse.questions.plans import PlanRow

_NOTHING = Decimal(0)


class Effect(NamedTuple):
    """What a company is charged for a UTC month (its first day), in USD, as published and by other plans.

    Usage, minimum and fees, without adjustments; to date in a running month. Of a month that is closed, the difference
    is charged as an adjustment in the next open one.
    """

    month: date
    company: str
    before_usd: Decimal
    after_usd: Decimal
    is_closed: bool


class Charged(NamedTuple):
    """What usage costs, and the fee for buying its credits, in USD."""

    usage_usd: Decimal
    purchase_fee_usd: Decimal


def plan_effect(connection: sa.Connection, rows: Sequence[PlanRow]) -> list[Effect]:
    """The charges of all months, by month and company, as published and by these rows."""
    days = sorted({day for row in rows for day in (row.valid_from, row.valid_to) if day})
    before = {CompanyMonth(it.month, it.company): it.total_usd for it in charges_by_month(connection)}
    used = charges(rows, usage_by_span(connection, days), days)
    closed, companies = set(closed_months(connection)), set(company_names(connection))
    # What is closed for Unattributed is closed for every company, those that are not there yet included.
    for_all = {key.month for key in closed if key.company == UNATTRIBUTED}
    after = totals(rows, used, known_months(connection))
    return [
        Effect(
            *key,
            before.get(key, _NOTHING),
            EXACT.normalize(after.get(key, _NOTHING)),
            is_closed=key in closed or (key.company not in companies and key.month in for_all),
        )
        for key in sorted(before.keys() | after.keys())
    ]


def charges(rows: Sequence[PlanRow], usage: Sequence[SpanUsage], days: Sequence[date]) -> dict[CompanyMonth, Charged]:
    """What usage costs by these rows; `days` are the first days of its spans, but that of span 0."""
    found: dict[tuple[str, str, bool, int], Price] = {}
    for price in prices(rows, {Used(it.company, it.model) for it in usage}):
        start = bisect_right(days, price.valid_from) if price.valid_from else 0
        end = bisect_right(days, price.valid_to) if price.valid_to else len(days) + 1
        for span in range(start, end):
            found[price.company, price.model, price.is_counter, span] = price
    parts: dict[CompanyMonth, list[Charged]] = defaultdict(list)
    for it in usage:
        price = found.get((it.company, it.model, it.is_counter, it.span))
        parts[CompanyMonth(it.month, it.company)].append(_charged(it, price))
    return {key: Charged(*map(exact_sum, zip(*of_month, strict=True))) for key, of_month in parts.items()}


def _charged(used: SpanUsage, price: Price | None) -> Charged:
    if price is None:
        return Charged(_NOTHING if used.company == UNATTRIBUTED else used.credits_usd, _NOTHING)
    factors = (
        (used.credits_usd, price.credits_rate),
        (used.byok_usd, price.byok_rate),
        (used.prompt_tokens, price.prompt_rate),
        (used.completion_tokens, price.completion_rate),
        (used.requests, price.request_rate),
    )
    usage_usd = exact_sum(EXACT.multiply(amount, rate) for amount, rate in factors)
    return Charged(usage_usd, EXACT.multiply(used.credits_usd, price.purchase_rate))


def totals(
    rows: Sequence[PlanRow],
    used: dict[CompanyMonth, Charged],
    months: Sequence[date],
) -> dict[CompanyMonth, Decimal]:
    """Usage, minimum and fees, in USD, of each company's months with usage or with a monthly row of its own.

    `months` are all that are known.
    """
    monthly = [row for row in rows if row.charge in MONTHLY]
    named = {CompanyMonth(it, row.company) for row in monthly for it in months if holds_on(row, it)}
    found: dict[CompanyMonth, Decimal] = {}
    for key in used.keys() | {it for it in named if it.company != EVERYBODY}:
        fee = _monthly(monthly, MONTHLY_FEE, key, has_spend=key in used)
        minimum = _monthly(monthly, MONTHLY_MINIMUM, key, has_spend=key in used)
        if key in used or fee is not None or minimum is not None:
            charged = used.get(key, Charged(_NOTHING, _NOTHING))
            missing = _NOTHING if minimum is None else max(EXACT.subtract(minimum, charged.usage_usd), _NOTHING)
            found[key] = exact_sum((charged.usage_usd, missing, fee or _NOTHING, charged.purchase_fee_usd))
    return found


def _monthly(rows: Iterable[PlanRow], charge: str, key: CompanyMonth, *, has_spend: bool) -> Decimal | None:
    """The value of the first row that holds on the first day of the month; rows for all reach companies with spend."""
    is_for_all = has_spend and key.company != UNATTRIBUTED
    for row in rows:
        is_for_company = row.company == key.company or (is_for_all and row.company == EVERYBODY)
        if row.charge == charge and is_for_company and holds_on(row, key.month):
            return row.value
    return None
