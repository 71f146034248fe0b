"""What a company's figure of one day is made of: the questions behind `orcost explain`. Amounts are exact.

Usage of a key on a day is `core.usage_daily`, its owners are `core.assignment`: what the marts are built from.
"""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import Rows, as_relation, ask, records, relation, sums, usage

_FIGURE = ("account", "company", "day", "is_settled")


class KnownDays(NamedTuple):
    """The first and last day that is known of an account, whether the day asked for is, and whether it is settled.

    `is_settled` is None where the day is not known.
    """

    account: str
    first_day: date
    last_day: date
    is_known: bool
    is_settled: bool | None


def company_figure(connection: sa.Connection, company: str, day: date, account: str | None) -> Rows:
    """A row for each account that has a figure of the company on that day."""
    rows = usage("company_figure", _FIGURE)
    grain = [rows.c[column] for column in _FIGURE]
    statement = sa.select(*grain, *sums(rows)).group_by(*grain).order_by(rows.c.account)
    return as_relation(connection.execute(statement, {"company": company, "day": day, "account": account}))


def figure_parts(connection: sa.Connection, company: str, day: date, account: str | None) -> Rows:
    """A row for each key, model and provider of the figure, the largest first: its usage, and the company's share."""
    return relation(connection, "figure_parts", company=company, day=day, account=account)


def figure_hours(connection: sa.Connection, company: str, day: date, account: str | None) -> Rows:
    """A row for each key, hour and model of the company's keys on that day."""
    return relation(connection, "figure_hours", company=company, day=day, account=account)


def raw_answers(connection: sa.Connection, company: str, day: date, account: str | None) -> Rows:
    """A row for each row that OpenRouter reported of the company's keys on that day, as far as it is still kept."""
    return relation(connection, "raw_answers", company=company, day=day, account=account)


def known_days(connection: sa.Connection, day: date, account: str | None) -> Sequence[KnownDays]:
    """A row for each account of which any day is known."""
    return records(KnownDays, ask(connection, "known_days", day=day, account=account))


def company_names(connection: sa.Connection) -> list[str]:
    """Every company that any mapping ever named, and Unattributed."""
    return list(ask(connection, "company_names").scalars())
