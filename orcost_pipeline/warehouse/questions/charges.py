"""What companies are charged as published, and the usage from which other plans would charge them."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import ask, records


class SpanUsage(NamedTuple):
    """What a company used of a model in the part of a month that lies in a span of days; USD and counts are exact.

    is_counter: known from counters only, which count no tokens.
    """

    month: date
    company: str
    model: str
    is_counter: bool
    span: int
    requests: Decimal
    prompt_tokens: Decimal
    completion_tokens: Decimal
    credits_usd: Decimal
    byok_usd: Decimal


class UsedModel(NamedTuple):
    """A model, by its permaslug; is_counter: its usage is known from counters only, which count no tokens."""

    model: str
    is_counter: bool = False


class MonthCharge(NamedTuple):
    """What a company is charged for a month by what is known today, whether or not it is closed, in USD."""

    month: date
    company: str
    total_usd: Decimal


def usage_by_span(connection: sa.Connection, days: Sequence[date]) -> Sequence[SpanUsage]:
    """The usage of all months by span of days: span 0 is before the first of `days`, which are in order."""
    return records(SpanUsage, ask(connection, "usage_by_span", days=list(days)))


def charges_by_month(connection: sa.Connection) -> Sequence[MonthCharge]:
    """The charges of all months, by month and company, without adjustments."""
    return records(MonthCharge, ask(connection, "charges_by_month"))


def known_months(connection: sa.Connection) -> list[date]:
    """The UTC months from the first that is stored to the running one, by their first days."""
    return list(ask(connection, "known_months").scalars())


def models_of_company(connection: sa.Connection, company: str, day: date) -> list[UsedModel]:
    """The models that a company used on a UTC day."""
    return records(UsedModel, ask(connection, "models_of_company", company=company, day=day))


def has_month_spend(connection: sa.Connection, company: str, month: date) -> bool:
    """Whether a company used anything in a UTC month, given by its first day."""
    return ask(connection, "has_month_spend", company=company, month=month).scalar_one()
