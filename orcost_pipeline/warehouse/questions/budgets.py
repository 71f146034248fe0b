"""What companies spend in a month, their budgets and the forecast, and days far above others."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import Rows, ask, records, relation


class Budget(NamedTuple):
    """A company's budget for the month of the data and what it spent, USD of credits and BYOK.

    `forecast_usd` is None where no earlier day is known; `status` is `ok`, `near`, `at_risk` or `exceeded`.
    """

    month: date
    company: str
    budget_usd: Decimal
    spent_usd: Decimal
    forecast_usd: Decimal | None
    status: str


def budgets(connection: sa.Connection, near_percent: Decimal) -> Sequence[Budget]:
    """The budgets of the month of the newest as_of, by company; `near` from a percentage of the budget on."""
    return records(Budget, ask(connection, "budgets", near_percent=near_percent))


class Spike(NamedTuple):
    """A company's last settled UTC day, and the median of the same weekday in the `weeks` known ones before, USD."""

    company: str
    day: date
    spent_usd: Decimal
    usual_usd: Decimal
    weeks: int


def spend_spikes(connection: sa.Connection, factor: Decimal, least_usd: Decimal) -> Sequence[Spike]:
    """Companies above `factor` times their usual spend, and above it by `least_usd` or more; by name."""
    return records(Spike, ask(connection, "spend_spikes", factor=factor, least_usd=least_usd))


def forecasts(connection: sa.Connection, month: date | None) -> Rows:
    """A row for each company and month: `month` (its first day; None: that of the newest as_of), then the three before.

    The largest forecast first; USD of credits and BYOK. `actual_usd` and `error_percent` are None for a month that has
    not ended or is known in part.
    """
    return relation(connection, "forecasts", month=month)
