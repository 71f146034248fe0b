"""What a relation of the warehouse is and holds, for one account: its columns, how many rows, the first of them.

The questions behind the metadata and the business checks in Dagster. How they look is decided in `defs/`.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa
import sqlalchemy.exc

from orcost_pipeline.warehouse.database import set_local
from orcost_pipeline.warehouse.questions.asking import Rows, ask, records, relation

# Rows and days that are shown.
MOST_ROWS, MOST_DAYS = 10, 31
# Counting a large relation would delay each sync; a count that takes longer is left out.
COUNT_WITHIN = "'1s'"

# Relations with the account's id instead of its name.
_BY_ID = ("core.usage_hourly", "core.usage_daily")
# Relations over all accounts.
_OF_ALL = ("marts.company_charge_monthly", "marts.statement")
# Columns that hold the account's name, where they are called otherwise.
_ACCOUNT = {"marts.focus_cost_and_usage": "BillingAccountId"}
# The newest or most expensive rows on top; relations that are missing here are too wide to be shown.
_PREVIEWS = {
    "ref.api_key": "preview_api_key",
    "ref.assignment": "preview_assignment",
    "marts.company_spend_daily": "preview_company_spend_daily",
    "marts.company_spend_monthly": "preview_company_spend_monthly",
    "marts.company_charge_monthly": "preview_company_charge_monthly",
    "marts.company_spend_rolling": "preview_company_spend_rolling",
    "marts.key_spend_rolling": "preview_key_spend_rolling",
    "marts.unattributed_spend": "preview_unattributed_spend",
    "marts.reconciliation_daily": "preview_reconciliation_daily",
    "ops.restatement": "preview_restatement",
}


class Column(NamedTuple):
    """A column of a relation: its name, Postgres's name of its type, and its comment."""

    name: str
    type: str
    description: str | None


def relation_columns(connection: sa.Connection, name: str) -> list[Column]:
    """The columns of a relation, in order; none where there is no such relation."""
    return records(Column, ask(connection, "relation_columns", relation=name))


def preview(connection: sa.Connection, name: str, account: str) -> Rows | None:
    """The first `MOST_ROWS` rows of a relation for an account; None for a relation that is too wide to be shown."""
    if name not in _PREVIEWS:
        return None
    return relation(connection, _PREVIEWS[name], account=account, most=MOST_ROWS)


def row_count(connection: sa.Connection, name: str, account: str) -> int | None:
    """The number of rows of the account, or of all where it has those of all; None where counting takes longer than
    `COUNT_WITHIN`."""
    schema, _, table = name.partition(".")
    rows, accounts = sa.table(table, schema=schema), sa.table("account", schema="ref")
    id_ = sa.select(sa.column("account_id")).select_from(accounts).where(sa.column("account") == account)
    is_ours = (
        sa.true()
        if name in _OF_ALL
        else sa.column("account_id") == id_.scalar_subquery()
        if name in _BY_ID
        else sa.column(_ACCOUNT.get(name, "account")) == account
    )
    try:
        with connection.begin_nested():
            connection.execute(sa.text(set_local({"statement_timeout": COUNT_WITHIN})))
            count = connection.execute(sa.select(sa.func.count()).select_from(rows).where(is_ours)).scalar_one()
            connection.execute(sa.text(set_local({"statement_timeout": "'0'"})))
            return count
    except sqlalchemy.exc.OperationalError:
        return None


def complete_to(connection: sa.Connection) -> Mapping[str, datetime | None]:
    """By account, the UTC instant up to which its data is complete; None before its first publication."""
    return {row.account: row.as_of for row in ask(connection, "complete_to")}


class DayPart(NamedTuple):
    """USD of one UTC day, and the part of it to look at."""

    day: date
    whole: Decimal
    part: Decimal


def unattributed_by_day(connection: sa.Connection, account: str) -> Sequence[DayPart]:
    """The account's credits on its last `MOST_DAYS` days, newest first, and the Unattributed part."""
    return records(DayPart, ask(connection, "unattributed_by_day", account=account, most=MOST_DAYS))


def residual_by_day(connection: sa.Connection, account: str) -> Sequence[DayPart]:
    """The account's credits on its last `MOST_DAYS` days, newest first, and what no key explains, without its sign."""
    return records(DayPart, ask(connection, "residual_by_day", account=account, most=MOST_DAYS))


def charged_by_month(connection: sa.Connection) -> Sequence[DayPart]:
    """USD charged to all companies in the last 24 months, and the margin of it: the first day of each, newest first."""
    return records(DayPart, ask(connection, "charged_by_month"))


class Spend(NamedTuple):
    """USD that OpenRouter charged, and the Unattributed part."""

    credits_usd: Decimal
    unattributed_usd: Decimal


def spend_of_30_days(connection: sa.Connection, account: str) -> Spend:
    """The account's credits in the rolling period of 30 days."""
    return records(Spend, ask(connection, "spend_of_30_days", account=account))[0]


class CompanySpend(NamedTuple):
    """USD of a company, credits and BYOK."""

    company: str
    usd: Decimal


def companies_of_30_days(connection: sa.Connection, account: str) -> Sequence[CompanySpend]:
    """The `MOST_ROWS` companies that cost most in the account's rolling period of 30 days, the most expensive first."""
    return records(CompanySpend, ask(connection, "companies_of_30_days", account=account, most=MOST_ROWS))


def spend_without_key(connection: sa.Connection, account: str) -> Decimal:
    """USD of credits, of all stored days, that analytics report under names that no listed key explains."""
    return ask(connection, "spend_without_key", account=account).scalar_one()


def unattributed_shares(connection: sa.Connection, account: str, most_percent: Decimal) -> Rows:
    """A row each for credits and BYOK spend of 30 days whose Unattributed share, in percent, exceeds `most_percent`."""
    return relation(connection, "unattributed_shares", account=account, unattributed_percent=most_percent)


def disagreeing_days(connection: sa.Connection, account: str) -> Rows:
    """A row for each day of the account whose reconciliation is open, newest first; USD of its sources."""
    return relation(connection, "disagreeing_days", account=account)


def newest_restatements(connection: sa.Connection, account: str) -> Rows:
    """A row for each day, key and model that the account's last sync found restated, newest day first; USD."""
    return relation(connection, "newest_restatements", account=account)


def differing_charges(connection: sa.Connection, account: str) -> Rows:
    """A row for each day and company of the last 35 days whose charge is not what the price plans make of its usage."""
    return relation(connection, "differing_charges", account=account)


def differing_closed_months(connection: sa.Connection) -> Rows:
    """A row for each closed month and company whose statement does not sum to what was closed."""
    return relation(connection, "differing_closed_months")
