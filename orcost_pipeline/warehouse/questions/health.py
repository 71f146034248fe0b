"""What findings are derived from, beside accounts, keys and syncs: the server, recent spend, what does not add up."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import ask, records
from orcost_pipeline.warehouse.schema.namespaces import SCHEMAS

# Dagster's daemons send a heartbeat every 30 s, and launch a run within seconds.
DAEMON_SILENT = timedelta(minutes=5)
RUN_WAITS = timedelta(minutes=10)


class RecentSpend(NamedTuple):
    """What one account spent in its rolling windows, in USD, and how much of that is Unattributed.

    `keyless_30d_usd` is the part of the Unattributed spend without a key; `unattributed_keys` counts those with spend.
    """

    spend_7d_usd: Decimal = Decimal(0)
    spend_30d_usd: Decimal = Decimal(0)
    byok_30d_usd: Decimal = Decimal(0)
    requests_30d: Decimal = Decimal(0)
    unattributed_30d_usd: Decimal = Decimal(0)
    unattributed_byok_30d_usd: Decimal = Decimal(0)
    keyless_30d_usd: Decimal = Decimal(0)
    spend_24h_usd: Decimal = Decimal(0)
    unattributed_keys: int = 0


def recent_spend(connection: sa.Connection) -> Mapping[str, RecentSpend]:
    """By account, those that have any key or spend."""
    return {account: RecentSpend(*amounts) for account, *amounts in ask(connection, "recent_spend")}


def open_days(connection: sa.Connection) -> Mapping[str, Sequence[date]]:
    """The days of each account whose witnesses disagree, oldest first."""
    return {row.account: row.days for row in ask(connection, "open_days")}


class UnreadableRows(NamedTuple):
    """How many rows had a field that could not be read, and the days whose figures lack it."""

    endpoint: str
    field: str
    rows: int
    days: Sequence[date]
    noticed_at: datetime


def unreadable_rows(connection: sa.Connection) -> Mapping[str, Sequence[UnreadableRows]]:
    """What could not be read of each account's answers, endpoint by endpoint."""
    found: dict[str, list[UnreadableRows]] = defaultdict(list)
    for account, *row in ask(connection, "unreadable_rows"):
        found[account].append(UnreadableRows(*row))
    return found


class Server(NamedTuple):
    """What a database is, and what this session's user may do there; without a warehouse, its rights are null."""

    user: str
    database: str
    major: int
    is_standby: bool
    is_read_only: bool
    connections: int
    max_connections: int
    encoding: str
    may_create: bool
    may_read: bool | None
    may_write: bool | None


def server_state(connection: sa.Connection) -> Server:
    """Asks system catalogues alone, which answer whatever the rights and whether there is a warehouse or not."""
    return records(Server, ask(connection, "server_state", schemas=list(SCHEMAS)))[0]


class Unserved(NamedTuple):
    """Something in Dagster that waits for its daemon: a daemon's name or a run's id, its state, and since when."""

    name: str
    state: str
    since: datetime


class Automation(NamedTuple):
    """What keeps Dagster from syncing by the hour: schedules and sensors that are stopped, daemons without
    heartbeats, runs that are not launched."""

    stopped: Sequence[str] = ()
    unserved: Sequence[Unserved] = ()


def automation(connection: sa.Connection, now: datetime, *, is_serving: bool) -> Automation:
    """The state of Dagster's automation; empty where this user may not read Dagster's tables, or there are none.

    Stopped schedules and sensors are reported while a daemon lives, or an orcost up serves (`is_serving`): the next
    orcost up switches them on.
    """
    if not ask(connection, "dagster_is_readable").scalar():
        return Automation()
    alive_at = ask(connection, "last_daemon_heartbeat").scalar()
    is_alive = alive_at is not None and alive_at > now - DAEMON_SILENT
    stopped = ask(connection, "stopped_automation").scalars().all() if is_alive or is_serving else ()
    silent = records(Unserved, ask(connection, "silent_daemons", before=now - DAEMON_SILENT))
    waiting = records(Unserved, ask(connection, "waiting_runs", before=now - RUN_WAITS))
    return Automation(list(stopped), [*silent, *waiting])
