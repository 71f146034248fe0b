"""Metadata of a relation for Dagster's UI: its instant, amounts in USD, columns, first rows, a picture."""

from datetime import date
from decimal import Decimal
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from orcost_pipeline.defs.pictures import bars, ranking
from orcost_pipeline.text import LONGEST_VALUE, markdown, short
from orcost_pipeline.warehouse.questions.relations import (
    charged_by_month,
    companies_of_30_days,
    complete_to,
    preview,
    relation_columns,
    residual_by_day,
    row_count,
    spend_of_30_days,
    spend_without_key,
    unattributed_by_day,
)

# Pictures: title, and the question for USD by day, in total and the part to look at.
_UNATTRIBUTED = ("USD, {days}; orange: no company", unattributed_by_day)
_PICTURES = {
    "marts.company_spend_daily": _UNATTRIBUTED,
    "marts.unattributed_spend": _UNATTRIBUTED,
    "marts.reconciliation_daily": ("USD, {days}; orange: no key", residual_by_day),
}

# What companies of all accounts are charged.
_CHARGES = ("marts.company_charge_daily", "marts.company_charge_monthly", "marts.statement")

# Dagster's UI shows longer Markdown only when it is asked for.
LONGEST_MARKDOWN = 999


def describe(connection: sa.Connection, relation: str, account: str, rows_written: int) -> dict[str, Any]:
    """Metadata of a published relation for one account, the most important first."""
    as_of = complete_to(connection).get(account)
    metadata: dict[str, Any] = {"as_of": dg.TimestampMetadataValue(as_of.timestamp())} if as_of else {}
    metadata["rows_written"] = rows_written
    if (rows := row_count(connection, relation, account)) is not None:
        metadata["dagster/row_count"] = rows
    if relation.startswith("marts."):
        name, usd = _money(connection, relation, account)
        metadata[name] = dg.MetadataValue.text(f"{usd:,.2f} USD")
    if relation in _PICTURES:
        metadata["picture"] = dg.MetadataValue.md(_picture(connection, relation, account))
    if relation == "marts.company_charge_monthly":
        metadata["picture"] = dg.MetadataValue.md(_margin(connection))
    if relation == "marts.company_spend_rolling":
        companies = companies_of_30_days(connection, account)
        metadata["companies"] = dg.MetadataValue.md(ranking(companies, "The last 30 days"))
    if (first := preview(connection, relation, account)) is not None:
        # As objects: pandas would convert amounts to floats.
        frame = pd.DataFrame(first.rows, columns=list(first.columns), dtype=object)
        metadata["preview"] = dg.MetadataValue.md(markdown_table(frame))
    metadata["dagster/column_schema"] = column_schema(connection, relation)
    return metadata


def _money(connection: sa.Connection, relation: str, account: str) -> tuple[str, Decimal]:
    """Name and USD of the amount shown for a mart: the account's spend, or the part of it that the relation holds.

    What is charged is that of all accounts.
    """
    if relation == "marts.unkeyed_spend_daily":
        return "without_a_key", spend_without_key(connection, account)
    if relation in _CHARGES:
        months = charged_by_month(connection)
        return "charged_in_the_month", months[0].whole if months else Decimal(0)
    spend = spend_of_30_days(connection, account)
    if relation == "marts.unattributed_spend":
        return "unattributed_of_30_days", spend.unattributed_usd
    return "spend_of_30_days", spend.credits_usd


def _picture(connection: sa.Connection, relation: str, account: str) -> str:
    """A bar for each of the last days, as Markdown."""
    title, by_day = _PICTURES[relation]
    days = by_day(connection, account)[::-1]
    span = f"{days[0].day} – {days[-1].day}" if days else "No day yet"
    return bars([(row.whole, row.part) for row in days], title.format(days=span))


def _margin(connection: sa.Connection) -> str:
    """A bar for each of the last months, as Markdown: what was charged, and the margin of it."""
    months = charged_by_month(connection)[::-1]
    span = f"{months[0].day:%Y-%m} – {months[-1].day:%Y-%m}" if months else "No month yet"
    return bars([(row.whole, row.part) for row in months], f"USD charged, {span}; orange: margin")


def column_schema(connection: sa.Connection, relation: str) -> dg.TableSchema:
    """The columns of a relation with their types and comments; none where there is no such relation."""
    columns = relation_columns(connection, relation)
    return dg.TableSchema([dg.TableColumn(it.name, it.type, description=it.description) for it in columns])


def markdown_table(frame: pd.DataFrame) -> str:
    """The first rows of a frame as a Markdown table, as many as Dagster's UI shows without a click."""
    text = "| " + " | ".join(str(column) for column in frame.columns) + " |\n" + "|" + "---|" * len(frame.columns)
    for row in frame.itertuples(index=False):
        line = "\n| " + " | ".join(_cell(value) for value in row) + " |"
        if len(text) + len(line) > LONGEST_MARKDOWN:
            break
        text += line
    return text


def _cell(value: Any) -> str:
    match value:
        case None:
            return "–"
        case Decimal() if value == value.to_integral_value():
            return f"{value:,.0f}"
        case Decimal():
            return f"{value:,.4f}"
        case date():
            return f"{value:%Y\N{NON-BREAKING HYPHEN}%m\N{NON-BREAKING HYPHEN}%d}"
        case _:
            return markdown(short(str(value), LONGEST_VALUE))
