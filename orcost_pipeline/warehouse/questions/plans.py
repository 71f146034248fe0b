"""The price plans in force, the exchange rates, and what plans may name: models and companies that have usage."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import ask, records


class PlanRow(NamedTuple):
    """One line of the price plans: what a company, or every one (`*`), is charged for a model, or all (None).

    value: percent or USD, as `charge` says; None where the charge does not hold (`none` in the file). It holds from
    UTC day `valid_from` to before `valid_to`; None is without limit.
    """

    line: int
    company: str
    charge: str
    value: Decimal | None
    model: str | None
    valid_from: date | None
    valid_to: date | None
    note: str | None


class PlanVersion(NamedTuple):
    """A version of the price plans that came into force."""

    version: int
    loaded_at: datetime
    source: str
    content_sha256: str
    row_count: int


class MissingRate(NamedTuple):
    """A currency without exchange rate for the running month, and the companies that are charged in it."""

    currency: str
    companies: list[str]


def plan_version_in_force(connection: sa.Connection) -> PlanVersion | None:
    """The version in force; None where no price plans were ever loaded."""
    return next(iter(records(PlanVersion, ask(connection, "newest_plan_version"))), None)


def plan_rows(connection: sa.Connection) -> Sequence[PlanRow]:
    """The rows of the version in force, in the order of the file; none where none was ever loaded."""
    return records(PlanRow, ask(connection, "plan_rows"))


def has_rates(connection: sa.Connection) -> bool:
    """Whether there is any exchange rate."""
    return ask(connection, "has_rates").scalar_one()


def missing_rates(connection: sa.Connection) -> list[MissingRate]:
    """The currencies that statements of the running month cannot be made in."""
    return records(MissingRate, ask(connection, "missing_rates"))


def exchange_rates(connection: sa.Connection) -> set[tuple[date, str, Decimal]]:
    """Date, currency and units per USD of every exchange rate, in no order."""
    return {tuple(row) for row in ask(connection, "exchange_rates")}


def companies_on_statements(connection: sa.Connection) -> set[tuple[str, str | None, str | None, str | None]]:
    """Company, display name, external id and currency of every company of which the list says one of them."""
    return {tuple(row) for row in ask(connection, "companies_on_statements")}


def used_models(connection: sa.Connection, first: date) -> list[str]:
    """The permaslugs of the models that were used on or after a UTC day."""
    return list(ask(connection, "used_models", first=first).scalars())


def companies_with_usage(connection: sa.Connection) -> list[str]:
    """The companies that ever used a model."""
    return list(ask(connection, "companies_with_usage").scalars())
