"""Metadata of a relation for Dagster's UI: its instant, amounts in USD, columns, first rows, a picture."""

from datetime import date
from decimal import Decimal
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa
import sqlalchemy.exc

from orcost_pipeline.defs.pictures import bars
from orcost_pipeline.text import LONGEST_VALUE, markdown, short
from orcost_pipeline.warehouse.database import set_local

_COLUMNS = sa.text(
    "select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, "
    "col_description(a.attrelid, a.attnum) as description from pg_attribute a "
    "where a.attrelid = to_regclass(:relation) and a.attnum > 0 and not a.attisdropped order by a.attnum"
)

# The rows to show first, the newest or most expensive on top; relations that are missing here are too wide.
_PREVIEWS = {
    "ref.api_key": "select name, workspace_name, company, usage_usd, last_used_at from ref.api_key "
    "where account = :account order by usage_usd desc",
    "ref.assignment": "select left(key_hash, 8) as key, nullif(valid_from::text, '-infinity') as valid_from, "
    "nullif(valid_to::text, 'infinity') as valid_to, company, share, rule from ref.assignment "
    "where account = :account order by key_hash nulls first, valid_from",
    "marts.company_spend_daily": "select day, company, credits_usd, byok_usd, requests "
    "from marts.company_spend_daily where account = :account order by day desc, credits_usd desc",
    "marts.company_spend_monthly": "select month, company, credits_usd, byok_usd, requests "
    "from marts.company_spend_monthly where account = :account order by month desc, credits_usd desc",
    "marts.company_spend_rolling": "select period, company, credits_usd, previous_credits_usd as before, byok_usd "
    "from marts.company_spend_rolling where account = :account order by period desc, credits_usd desc",
    "marts.key_spend_rolling": "select period, key_name, company, credits_usd, byok_usd "
    "from marts.key_spend_rolling where account = :account order by period desc, credits_usd desc",
    "marts.unattributed_spend": "select key_name, first_day, last_day, credits_usd, byok_usd "
    "from marts.unattributed_spend where account = :account order by credits_usd desc",
    "marts.reconciliation_daily": "select day, account_credits_usd as account, keys_credits_usd as keys, "
    "residual_credits_usd as residual, status, cause from marts.reconciliation_daily where account = :account "
    "order by day desc",
    "ops.restatement": "select day, left(key_hash, 8) as key, model, credits_usd_before as before, credits_usd_after "
    "as after from ops.restatement where account = :account order by noticed_at desc, day desc",
}

# Pictures: title, and the SQL for USD by day, in total and the part to look at.
_UNATTRIBUTED = (
    "USD, {days}; orange: no company",
    "select day, sum(credits_usd) as whole, "
    "coalesce(sum(credits_usd) filter (where company = 'Unattributed'), 0) as part "
    "from marts.company_spend_daily where account = :account group by day",
)
_PICTURES = {
    "marts.company_spend_daily": _UNATTRIBUTED,
    "marts.unattributed_spend": _UNATTRIBUTED,
    "marts.reconciliation_daily": (
        "USD, {days}; orange: no key",
        "select day, account_credits_usd as whole, abs(residual_credits_usd) as part "
        "from marts.reconciliation_daily where account = :account",
    ),
}

_30_DAYS = (
    "select coalesce(sum(credits_usd), 0) from marts.company_spend_rolling where account = :account and period = '30d'"
)
# The amount shown for a mart: the account's spend, or the part of it that the relation holds.
_MONEY = {
    "marts.unattributed_spend": (
        "unattributed_of_30_days",
        f"{_30_DAYS} and company = 'Unattributed'",
    ),
    "marts.unkeyed_spend_daily": (
        "without_a_key",
        "select coalesce(sum(credits_usd), 0) from marts.unkeyed_spend_daily where account = :account",
    ),
}

# Dagster's UI shows longer Markdown only when it is asked for.
LONGEST_MARKDOWN = 999
# Counting a large relation would delay each sync; a count that takes longer is left out.
COUNT_SECONDS = 1
# Relations with the account's id instead of its name.
_BY_ID = ("core.usage_hourly", "core.usage_daily")
_ID = "select account_id from ref.account where account = :account"


def describe(connection: sa.Connection, relation: str, account: str, rows_written: int) -> dict[str, Any]:
    """Metadata of a published relation for one account, the most important first."""
    as_of = connection.execute(sa.text("select as_of from ref.account where account = :a"), {"a": account}).scalar()
    metadata: dict[str, Any] = {"as_of": dg.TimestampMetadataValue(as_of.timestamp())} if as_of else {}
    metadata["rows_written"] = rows_written
    if (rows := _row_count(connection, relation, account)) is not None:
        metadata["dagster/row_count"] = rows
    if relation.startswith("marts."):
        name, statement = _MONEY.get(relation, ("spend_of_30_days", _30_DAYS))
        money = connection.execute(sa.text(statement), {"account": account}).scalar_one()
        metadata[name] = dg.MetadataValue.text(f"{money:,.2f} USD")
    if relation in _PICTURES:
        metadata["picture"] = dg.MetadataValue.md(_picture(connection, relation, account))
    if relation in _PREVIEWS:
        rows = connection.execute(sa.text(f"{_PREVIEWS[relation]} limit 10"), {"account": account})
        # As objects: pandas would convert amounts to floats.
        frame = pd.DataFrame(rows.all(), columns=list(rows.keys()), dtype=object)
        metadata["preview"] = dg.MetadataValue.md(markdown_table(frame))
    metadata["dagster/column_schema"] = column_schema(connection, relation)
    return metadata


def _row_count(connection: sa.Connection, relation: str, account: str) -> int | None:
    """The number of rows of the account; None where counting takes longer than `COUNT_SECONDS`."""
    try:
        with connection.begin_nested():
            connection.execute(sa.text(set_local({"statement_timeout": f"'{COUNT_SECONDS}s'"})))
            is_ours = f"account_id = ({_ID})" if relation in _BY_ID else "account = :account"
            counted = sa.text(f"select count(*) from {relation} where {is_ours}")
            rows = connection.execute(counted, {"account": account}).scalar_one()
            connection.execute(sa.text(set_local({"statement_timeout": "'0'"})))
            return rows
    except sqlalchemy.exc.OperationalError:
        return None


def _picture(connection: sa.Connection, relation: str, account: str) -> str:
    title, statement = _PICTURES[relation]
    newest = sa.text(f"select * from ({statement}) days order by day desc limit 31")
    days = connection.execute(newest, {"account": account}).all()[::-1]
    span = f"{days[0].day} – {days[-1].day}" if days else "No day yet"
    return bars([(row.whole, row.part) for row in days], title.format(days=span))


def column_schema(connection: sa.Connection, relation: str) -> dg.TableSchema:
    """The columns of a relation with their types and comments, from the catalogue."""
    rows = connection.execute(_COLUMNS, {"relation": relation})
    return dg.TableSchema([dg.TableColumn(row.name, row.type, description=row.description) for row in rows])


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
