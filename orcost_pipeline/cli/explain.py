"""`orcost explain`: what a company's cost of one day consists of: keys, models and rules, hours, OpenRouter's answers.

csv and json are exact, one row per key, model and provider; the table adds the other parts.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from rich.console import RenderableType
from rich.text import Text

from orcost_pipeline import formats
from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.rendering import cells, show, table
from orcost_pipeline.cli.report import synced_accounts
from orcost_pipeline.companies.names import require_known
from orcost_pipeline.companies.preview import exact_sum
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import UNKNOWN, key_name, money, rounded, short_hash
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import MOST_NAMES, few, plural, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.explanation import (
    company_figure,
    company_names,
    figure_hours,
    figure_parts,
    known_days,
    raw_answers,
)
from orcost_pipeline.warehouse.questions.reconciliation import unkeyed_spend
from orcost_pipeline.warehouse.questions.spend import UNATTRIBUTED
from orcost_pipeline.windows import day_start

Row = dict[str, Any]


def explain(settings: Settings, company: str, day: date, account: str | None, output: str, now: datetime) -> None:
    """Prints the parts of a company's cost on a UTC day; raises PermanentError for an unknown company or day."""
    with snapshot(settings) as connection:
        as_of = min(it.as_of for it in synced_accounts(connection, settings, account))
        require_known(company, company_names(connection))
        is_settled = _require_day(connection, day, account)
        parts = figure_parts(connection, company, day, account)
        if output == "table":
            figure = company_figure(connection, company, day, account)
            show(Text(_headline(company, day, figure.rows, is_settled=is_settled), style="bold"))
            show(*_details(connection, company, day, account, parts, as_of, settings.retention.raw_days))
            show(Text(formats.complete_to(as_of, now), style="dim"))
            return
    (rendering.write_csv if output == "csv" else rendering.write_json)(parts)


def _require_day(connection: sa.Connection, day: date, account: str | None) -> bool:
    """Whether a day is settled; raises PermanentError for an unknown day."""
    known = known_days(connection, day, account)
    if not any(row.is_known for row in known):
        spans = few([f"{row.account}: {row.first_day} – {row.last_day}" for row in known], MOST_NAMES)
        raise PermanentError(f"Nothing is known of {day}. Known: {'; '.join(spans)}.")
    return all(row.is_settled for row in known if row.is_known)


def _details(
    connection: sa.Connection, company: str, day: date, account: str | None, parts: Rows, as_of: datetime, raw_days: int
) -> Iterator[RenderableType]:
    yield _parts(parts.rows) if parts.rows else Text("  nothing was used")
    hours = figure_hours(connection, company, day, account)
    if hours.rows:
        yield Text("\nBy hour", style="bold")
        yield _hours(hours.rows)
    if company == UNATTRIBUTED and (unkeyed := unkeyed_spend(connection, account, day)).rows:
        yield Text("\nWithout a key", style="bold")
        yield _unkeyed(unkeyed.rows)
    yield Text("\nWhat OpenRouter answered", style="bold")
    answers = raw_answers(connection, company, day, account).rows
    if answers:
        yield _answers(answers)
    elif day_start(day + timedelta(days=1)) > as_of - timedelta(days=raw_days):
        yield Text("  nothing")
    else:
        yield Text(f"  is no longer kept: raw rows stay for {plural(raw_days, 'day')}")


def _headline(company: str, day: date, figure: Sequence[Row], *, is_settled: bool) -> str:
    credits_usd, byok_usd = (exact_sum(row[name] for row in figure) for name in ("credits_usd", "byok_usd"))
    byok = f" and {byok_usd:f} USD of BYOK" if byok_usd else ""
    settled = "settled" if is_settled else "not settled yet: its hours so far"
    return f"{short(company)} on {day}: {credits_usd:f} USD{byok} ({settled})"


def _parts(rows: Sequence[Row]) -> RenderableType:
    """A row per key, model and provider, in USD."""
    spent = money(amount for row in rows for amount in (row["usage_credits_usd"], row["credits_usd"]))
    byok = money(row["byok_usd"] for row in rows)
    drawn = table(
        *("Key", "Model", "Provider", "Rule", "Used USD", "Share", "USD", "BYOK USD", "Source"),
        right=["Used USD", "Share", "USD", "BYOK USD"],
    )
    for row in rows:
        rule = f"{short(row['rule'])} (line {row['line']})" if row["rule"] else "no rule"
        drawn.add_row(
            *cells(
                key_name(row["key_name"], row["key_hash"]),
                row["model"],
                row["provider"] or UNKNOWN,
                rule,
                spent(row["usage_credits_usd"]),
                f"{rounded(row['share'] * 100, 2).rstrip('0').rstrip('.')} %",
                spent(row["credits_usd"]),
                byok(row["byok_usd"] or None),
                row["source"],
            )
        )
    return drawn


def _hours(rows: Sequence[Row]) -> RenderableType:
    spent = money(row["credits_usd"] for row in rows)
    drawn = table("Hour", "Key", "Model", "Requests", "USD", right=["Requests", "USD"])
    for row in sorted(rows, key=lambda row: row["hour"]):
        hour, key = f"{row['hour']:%H:%M}", key_name(row["key_name"], row["key_hash"])
        drawn.add_row(*cells(hour, key, row["model"], rounded(row["requests"], 0), spent(row["credits_usd"])))
    return drawn


def _unkeyed(rows: Sequence[Row]) -> RenderableType:
    spent = money(row["credits_usd"] for row in rows)
    drawn = table("Shown as", "Cause", "USD", right=["USD"])
    for row in rows:
        drawn.add_row(*cells(key_name(row["key_name"], None), row["cause"], spent(row["credits_usd"])))
    return drawn


def _answers(rows: Sequence[Row]) -> RenderableType:
    """A row per kept answer: when it was read, its table, its number of rows and their sum."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["as_of"], row["relation"], row["key_hash"], row["run_id"]), []).append(row)
    sums = {group: exact_sum(row["credits_usd"] for row in of_group) for group, of_group in groups.items()}
    spent = money(sums.values())
    drawn = table("Asked at", "Table", "Of key", "Rows", "USD", "Run", right=["Rows", "USD"])
    for (as_of, relation, key_hash, run_id), of_group in sorted(groups.items(), key=lambda group: str(group[0])):
        whose = short_hash(key_hash) if key_hash else "the account"
        count, total = plural(len(of_group), "row"), spent(sums[as_of, relation, key_hash, run_id])
        drawn.add_row(*cells(f"{as_of:%Y-%m-%d %H:%M}", relation, whose, count, total, run_id[:8]))
    return drawn
