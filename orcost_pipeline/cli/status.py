"""`orcost status`: one line per account, then what is wrong, worst first, each with the command that helps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
import typer
from rich.table import Table
from rich.text import Text

from orcost_pipeline.cli.database import snapshot
from orcost_pipeline.cli.rendering import (
    STALE_AFTER,
    UNKNOWN,
    age,
    as_json,
    cells,
    clean,
    clock,
    plural,
    rounded,
    share,
    show,
    table,
)
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse import reports
from orcost_pipeline.warehouse.reports import UNATTRIBUTED, Rows

COLUMNS = ("Account", "Kind", "Status", "Last success", "Complete to", "Open days", "Unattributed 30d", "Balance USD")


class Problem(NamedTuple):
    """Something that a person should mend; those of a lower rank are worse."""

    rank: int
    account: str
    message: str
    command: str


@dataclass(frozen=True)
class Standing:
    """What is known of an account; of one that was never tried, its name only."""

    account: str
    is_watched: bool = True
    kind: str | None = None
    status: str | None = None
    error: str | None = None
    as_of: datetime | None = None
    last_success_at: datetime | None = None
    last_run_status: str | None = None
    last_run_error: str | None = None
    open_days: Sequence[date] = ()
    spend_30d_usd: Decimal = Decimal(0)
    unattributed_30d_usd: Decimal = Decimal(0)
    spend_7d_usd: Decimal = Decimal(0)
    balance_usd: Decimal | None = None

    @property
    def unattributed_share(self) -> Decimal | None:
        return self.unattributed_30d_usd / self.spend_30d_usd if self.spend_30d_usd else None

    @property
    def days_left(self) -> int | None:
        """How long the balance lasts at the pace of the last 7 days; None beyond ten years, which is no forecast."""
        if self.balance_usd is None or self.spend_7d_usd <= 0:
            return None
        days = max(0, int(self.balance_usd * 7 / self.spend_7d_usd))
        return days if days <= 3_650 else None


def status(settings: Settings, output: str, now: datetime) -> int:
    """Prints the standing of every account; the exit code is 0 when all is well."""
    with snapshot(settings) as connection:
        standings = _standings(connection, settings)
    problems = sorted(problem for standing in standings for problem in _problems(standing, settings, now))
    if output == "json":
        typer.echo(as_json(_as_data(standings, problems)))
    else:
        show(_table(standings, now), "", *_lines(problems))
    return 1 if problems else 0


# What is known


def _standings(connection: sa.Connection, settings: Settings) -> list[Standing]:
    rows = reports.accounts(connection)
    days = reports.open_days(connection)
    month, week = (reports.rolling_spend(connection, "company", period, None) for period in ("30d", "7d"))
    configured = {account.name for account in settings.accounts if account.api_key is not None}
    known = [_standing(row, not configured or row.account in configured, days, month, week) for row in rows]
    names = {row.account for row in rows}
    # Without a key and beside accounts that others sync, the implicit account `default` is nobody's.
    untried = [it.name for it in settings.accounts if it.name not in names and (it.api_key is not None or not rows)]
    return [*known, *(Standing(name) for name in untried)]


def _standing(
    row: sa.Row, is_watched: bool, open_days: Mapping[str, Sequence[date]], month: Rows, week: Rows
) -> Standing:
    return Standing(
        account=row.account,
        is_watched=is_watched,
        kind=row.kind,
        status=row.status,
        error=row.error,
        as_of=row.as_of,
        last_success_at=row.last_success_at,
        last_run_status=row.last_run_status,
        last_run_error=row.last_run_error,
        open_days=open_days.get(row.account, ()),
        spend_30d_usd=_spent(month, row.account),
        unattributed_30d_usd=_spent(month, row.account, UNATTRIBUTED),
        spend_7d_usd=_spent(week, row.account),
        balance_usd=row.balance_usd,
    )


def _spent(spend: Rows, account: str, company: str | None = None) -> Decimal:
    rows = (row for row in spend.rows if row["account"] == account and company in (None, row["company"]))
    return sum((row["credits_usd"] for row in rows), Decimal(0))


# What is wrong


def _problems(standing: Standing, settings: Settings, now: datetime) -> Iterator[Problem]:
    name, sync = standing.account, f"orcost sync --account {_quoted(standing.account)}"
    if not standing.is_watched:
        return
    if standing.status not in (None, "ok"):
        yield _refused(standing, sync)
    elif standing.as_of is None:
        yield Problem(3, name, "It was never synced.", sync)
    elif now - standing.as_of > STALE_AFTER:
        since = f"Nothing newer than {clock(standing.as_of, now)} came in ({age(now - standing.as_of)})."
        yield Problem(4, name, f"{since} Is orcost up running?", sync)
    if standing.last_run_error and standing.last_run_status == "succeeded":
        yield Problem(5, name, standing.last_run_error, f"orcost map check {_quoted(str(settings.mapping))}")
    if standing.last_run_status == "abandoned":
        yield Problem(6, name, "The last sync died before it was done.", sync)
    if standing.open_days:
        days = standing.open_days
        told = f"{plural(len(days), 'day')} (first {days[0]})" if len(days) > 1 else f"{days[0]}"
        yield Problem(7, name, f"Hours, activity and keys disagree about {told}.", f"{sync} --since {days[0]}")


def _refused(standing: Standing, sync: str) -> Problem:
    rank = {"invalid_key": 0, "failed": 1}.get(standing.status or "", 2)
    what = {"invalid_key": "OpenRouter refused its key.", "failed": "The last sync failed."}
    message = standing.error or what.get(standing.status or "", "OpenRouter or the database could not be reached.")
    return Problem(rank, standing.account, message, sync)


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text


# How it looks


def _table(standings: Iterable[Standing], now: datetime) -> Table:
    drawn = table(*COLUMNS, right=COLUMNS[5:])
    for standing in standings:
        drawn.add_row(*cells(*_cells(standing, now)), style="" if standing.status == "ok" else "yellow")
    return drawn


def _cells(standing: Standing, now: datetime) -> Iterator[str]:
    yield standing.account
    yield standing.kind or UNKNOWN
    yield _told_status(standing)
    yield age(now - standing.last_success_at) if standing.last_success_at else UNKNOWN
    yield clock(standing.as_of, now) if standing.as_of else UNKNOWN
    yield f"{len(standing.open_days)}" if standing.as_of else UNKNOWN
    yield share(standing.unattributed_30d_usd, standing.spend_30d_usd) if standing.spend_30d_usd else UNKNOWN
    left = f" ({plural(standing.days_left, 'day')})" if standing.days_left is not None else ""
    yield f"{rounded(standing.balance_usd, 2)}{left}" if standing.balance_usd is not None else UNKNOWN


def _told_status(standing: Standing) -> str:
    told = (standing.status or "never synced").replace("_", " ")
    return told if standing.is_watched else f"{told}, not configured"


def _lines(problems: Sequence[Problem]) -> Iterator[Text]:
    if not problems:
        yield Text("All is well.", style="green")
    for problem in problems:
        first, *more = problem.message.splitlines()
        yield Text(f"{problem.account}: {clean(first)}", style="yellow")
        yield from (Text(f"  {clean(line.strip())}") for line in more)
        yield Text(f"  → {problem.command}")


def _as_data(standings: Iterable[Standing], problems: Iterable[Problem]) -> dict[str, Any]:
    return {
        "accounts": [
            {
                "account": standing.account,
                "kind": standing.kind,
                "status": standing.status,
                "last_success_at": standing.last_success_at,
                "as_of": standing.as_of,
                "open_days": standing.open_days,
                "unattributed_share": standing.unattributed_share,
                "balance_usd": standing.balance_usd,
                "days_left": standing.days_left,
            }
            for standing in standings
        ],
        "problems": [
            {"account": problem.account, "message": problem.message, "command": problem.command} for problem in problems
        ],
    }
