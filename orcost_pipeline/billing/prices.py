"""Price plans × what was used → the price of each company's use of each model, by span of days. Pure functions.

A charge for usage is linear in what was used, so a price is a factor for each amount; all factors are exact. For each
company, charge, model and day the first row of the plans that matches holds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from orcost_pipeline.companies.assignment import glob_matches
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.measures import EXACT
from orcost_pipeline.warehouse.publication.transaction import Price
from orcost_pipeline.warehouse.questions.plans import PlanRow

EVERYBODY = "*"
MARKUP = "markup_percent"
BYOK = "byok_percent"
PROMPT, COMPLETION, REQUEST = "prompt_usd_per_million", "completion_usd_per_million", "request_usd"
PURCHASE = "credit_purchase_percent"
MONTHLY_FEE, MONTHLY_MINIMUM = "monthly_fee_usd", "monthly_minimum_usd"

# Where one of these holds, usage that has tokens costs their sum, and the markup does not apply.
UNIT_PRICES = (PROMPT, COMPLETION, REQUEST)
# What usage costs, in the order in which a charge names its rows.
OF_USAGE = (MARKUP, BYOK, *UNIT_PRICES)
MONTHLY = (MONTHLY_FEE, MONTHLY_MINIMUM)
CHARGES = (*OF_USAGE, PURCHASE, *MONTHLY)

_ONE = Decimal(1)
_NONE = Decimal(0)


class Used(NamedTuple):
    """A company and a model that it used."""

    company: str
    model: str


def prices(rows: Sequence[PlanRow], used: Iterable[Used]) -> list[Price]:
    """The prices of what was used, where a row of the plans holds; all other usage costs what OpenRouter charged.

    Unattributed is never charged and has no price.
    """
    of_usage = [row for row in rows if row.charge not in MONTHLY]
    of_company: dict[str, list[PlanRow]] = {}
    found: list[Price] = []
    for it in used:
        if it.company == UNATTRIBUTED:
            continue
        if it.company not in of_company:
            of_company[it.company] = [row for row in of_usage if row.company in (it.company, EVERYBODY)]
        found += _prices_of([row for row in of_company[it.company] if is_for(row, it.model)], it)
    return found


def is_for(row: PlanRow, model: str) -> bool:
    """Whether a row is for the use of a model, on any day."""
    return row.model is None or glob_matches(row.model, model)


def holds_on(row: PlanRow, day: date) -> bool:
    """Whether a row holds on a UTC day."""
    return (row.valid_from is None or row.valid_from <= day) and (row.valid_to is None or day < row.valid_to)


def _prices_of(rows: Sequence[PlanRow], used: Used) -> Iterator[Price]:
    """The prices of one company and model, by the rows that match it on some day."""
    days = sorted({day for row in rows for day in (row.valid_from, row.valid_to) if day})
    for start, end in pairwise([None, *days, None]):
        # A row holds on all days of a span or on none: it begins and ends where spans do.
        day = start or date.min
        held = {
            charge: row.value
            for charge in CHARGES
            if (row := next((it for it in rows if it.charge == charge and holds_on(it, day)), None))
            and row.value is not None
        }
        if held:
            for is_counter in (False, True):
                yield _price(used, start, end, held, is_counter=is_counter)


def _price(used: Used, start: date | None, end: date | None, held: dict[str, Decimal], *, is_counter: bool) -> Price:
    """The price by the values that hold on a span of days."""
    has_units = not is_counter and any(charge in held for charge in UNIT_PRICES)
    applied = {it for it in OF_USAGE if it in held and (it == BYOK or (it in UNIT_PRICES) == has_units)}
    value: Callable[[str], Decimal] = lambda charge: held[charge] if charge in applied else _NONE  # noqa: E731
    return Price(
        *used,
        is_counter,
        start,
        end,
        credits_rate=_NONE if has_units else EXACT.add(_ONE, EXACT.scaleb(value(MARKUP), -2)),
        byok_rate=EXACT.scaleb(value(BYOK), -2),
        prompt_rate=EXACT.scaleb(value(PROMPT), -6),
        completion_rate=EXACT.scaleb(value(COMPLETION), -6),
        request_rate=value(REQUEST),
        purchase_rate=EXACT.scaleb(held.get(PURCHASE, _NONE), -2),
        plan="; ".join(f"{it}={held[it]:f}" for it in OF_USAGE if it in applied),
    )
