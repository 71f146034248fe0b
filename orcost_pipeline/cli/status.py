"""`orcost status`: one row per account, then the findings, worst first, each with what to do."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import typer
from rich.table import Table

from orcost_pipeline.cli.rendering import as_json, cells, finding_lines, show, table
from orcost_pipeline.formats import UNKNOWN, age, clock, rounded, share
from orcost_pipeline.health.finding import Finding, as_data, exit_code, worst_first
from orcost_pipeline.health.machine import home_findings
from orcost_pipeline.health.standing import Standing, read
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import plural
from orcost_pipeline.warehouse.access import snapshot

COLUMNS = ("Account", "Kind", "Status", "Last success", "Complete to", "Open days", "Unattributed 30d", "Balance USD")


def status(settings: Settings, output: str, now: datetime) -> int:
    """Prints the standing of every account and the findings; returns 1 if one is an error, else 0."""
    with snapshot(settings) as connection:
        stored = read(connection, settings, now)
    found = worst_first([*stored_findings(stored, settings, now), *home_findings(settings)])
    if output == "json":
        typer.echo(as_json(_as_data(stored.standings, found)))
    else:
        show(_table(stored.standings, now), "", *finding_lines(found, now, "All is well."))
    return exit_code(found)


def _table(standings: Iterable[Standing], now: datetime) -> Table:
    drawn = table(*COLUMNS, right=COLUMNS[5:])
    for standing in standings:
        drawn.add_row(*cells(*_cells(standing, now)), style="" if standing.state.status == "ok" else "yellow")
    return drawn


def _cells(standing: Standing, now: datetime) -> Iterator[str]:
    yield standing.account
    yield standing.state.kind or UNKNOWN
    yield _status_text(standing)
    yield age(now - standing.state.last_success_at) if standing.state.last_success_at else UNKNOWN
    yield clock(standing.state.as_of, now) if standing.state.as_of else UNKNOWN
    yield f"{len(standing.open_days)}" if standing.state.as_of else UNKNOWN
    spend = standing.spend
    yield share(spend.unattributed_30d_usd, spend.spend_30d_usd) if spend.spend_30d_usd else UNKNOWN
    left = f" ({plural(standing.days_left, 'day')})" if standing.days_left is not None else ""
    balance = _balance_usd(standing)
    yield f"{rounded(balance, 2)}{left}" if balance is not None else UNKNOWN


def _balance_usd(standing: Standing) -> Decimal | None:
    """The remaining credits in USD; None for an invoiced account."""
    return standing.state.balance_usd if standing.is_prepaid else None


def _status_text(standing: Standing) -> str:
    text = (standing.state.status or "never synced").replace("_", " ")
    return text if standing.is_watched else f"{text}, not configured"


def _as_data(standings: Iterable[Standing], found: Sequence[Finding]) -> dict[str, Any]:
    return {
        "ok": exit_code(found) == 0,
        "accounts": [
            {
                "account": standing.account,
                "kind": standing.state.kind,
                "status": standing.state.status,
                "last_success_at": standing.state.last_success_at,
                "as_of": standing.state.as_of,
                "open_days": standing.open_days,
                "unattributed_share": standing.unattributed_share,
                "balance_usd": _balance_usd(standing),
                "days_left": standing.days_left,
            }
            for standing in standings
        ],
        "findings": as_data(found),
    }
