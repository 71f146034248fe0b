"""What companies are charged: months, statements, and what stands in the way of closing a month. Amounts are exact."""

from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.accounts import outdated_accounts
from orcost_pipeline.warehouse.questions.asking import ask, records


class StatementLine(NamedTuple):
    """A line of a statement: the columns of `marts.statement`, and why an adjustment is made."""

    month: date
    company: str
    line: int
    kind: str
    account: str | None
    key_hash: str | None
    key_name: str | None
    model: str | None
    adjusted_month: date | None
    requests: Decimal | None
    prompt_tokens: Decimal | None
    completion_tokens: Decimal | None
    credits_usd: Decimal | None
    byok_usd: Decimal | None
    amount_usd: Decimal
    amount: Decimal
    currency: str
    per_usd: Decimal
    reason: str | None


class StatementHead(NamedTuple):
    """What is said about the lines of a statement.

    status: open or closed, then since `closed_at`. data_until: up to when the data of all accounts is complete.
    reconciliation: the worst status of the month's days; None where none is known. known_from: of the month.
    per_usd: units of the currency for one USD, by the rate of `rate_date` (None: USD); None where there is no rate.
    reopened: how often the month was opened again. void_closed_at: when the last statement was closed that became void
    by that, and how often the month had been opened again before (void_reopened); None where none did.
    """

    company: str
    display_name: str | None
    external_id: str | None
    month: date
    status: str
    closed_at: datetime | None
    data_until: datetime | None
    is_settled: bool
    is_complete: bool
    known_from: datetime | None
    reconciliation: str | None
    currency: str
    minor_unit: int
    per_usd: Decimal | None
    rate_date: date | None
    reopened: int
    void_closed_at: datetime | None
    void_reopened: int | None


class VoidStatement(NamedTuple):
    """A statement that became void as its month was opened again: what it said is owed, in its currency."""

    company: str
    closed_at: datetime
    currency: str
    minor_unit: int
    total: Decimal


class Documents(NamedTuple):
    """A closed statement, as it was rendered then."""

    html: str
    csv: str
    json: str


class CompanyMonth(NamedTuple):
    """A UTC month, by its first day, of a company."""

    month: date
    company: str


class ChargedMonth(NamedTuple):
    """A company's month, in its currency; `per_usd` is None where that has no rate."""

    company: str
    month: date
    status: str
    currency: str
    per_usd: Decimal | None


class Obstacle(NamedTuple):
    """Days of an account that keep a month from being closed.

    kind: `young` (its data does not reach far enough yet), `unsettled`, `counted` (only counters tell of them, and
    nothing will settle them), `open` (their reconciliation), `part` (not known as a whole),
    `unknown` (not known at all), `pending` (published by another mapping or other price plans than those in force),
    `gone` (the account is not configured any more). first_day, last_day: of how many `days`.
    """

    account: str
    kind: str
    first_day: date
    last_day: date
    days: int
    as_of: datetime | None


def charged_companies(connection: sa.Connection) -> list[str]:
    """Every company, without Unattributed."""
    return list(ask(connection, "charged_companies").scalars())


def statement_heads(connection: sa.Connection, companies: Collection[str], month: date) -> list[StatementHead]:
    """What is said about the statement of each company that is known, whether or not it has lines."""
    return records(StatementHead, ask(connection, "statement_heads", companies=list(companies), month=month))


def statement_lines(connection: sa.Connection, companies: Collection[str], month: date) -> list[StatementLine]:
    """The lines of the statements of companies in a month, in their order."""
    return records(StatementLine, ask(connection, "statement_lines", companies=list(companies), month=month))


def documents(connection: sa.Connection, company: str, month: date) -> Documents | None:
    """The documents of a closed statement; None where the month is open, or had nothing when it was closed."""
    return next(iter(records(Documents, ask(connection, "documents", company=company, month=month))), None)


def void_statements(connection: sa.Connection, month: date) -> dict[str, VoidStatement]:
    """Of each company, the statement of a month that became void last."""
    found = records(VoidStatement, ask(connection, "void_statements", month=month))
    return {it.company: it for it in found}


def charged_months(connection: sa.Connection, upto: date) -> list[ChargedMonth]:
    """The months of all companies that begin on a day or before; oldest first. Unattributed has none."""
    return records(ChargedMonth, ask(connection, "charged_months", upto=upto))


def is_closed(connection: sa.Connection, month: date, company: str | None) -> bool:
    """Whether a month is closed for a company (None: for every one, those included that get something in it later)."""
    return ask(connection, "is_closed", month=month, company=company).scalar_one()


def has_nothing(connection: sa.Connection, month: date, company: str) -> bool:
    """Whether a month is closed for a company, without anything in it."""
    return is_closed(connection, month, company) and documents(connection, company, month) is None


def closed_months(connection: sa.Connection) -> list[CompanyMonth]:
    """The closed months of each company there is, Unattributed included; oldest first."""
    return records(CompanyMonth, ask(connection, "closed_months"))


def obstacles(
    connection: sa.Connection, month: date, company: str | None, configured: Collection[str]
) -> list[Obstacle]:
    """The days that keep a month from being closed for a company (None: for all), by account.

    Of one company, accounts count in which it has a key or spend in the month.
    """
    accounts = {"configured": list(configured), "outdated": list(outdated_accounts(connection))}
    return records(Obstacle, ask(connection, "closing_obstacles", month=month, company=company, **accounts))
