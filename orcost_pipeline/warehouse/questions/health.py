"""What findings are derived from, beside accounts, keys and syncs: the server, recent spend, what does not add up."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import ask, records
from orcost_pipeline.warehouse.schema.namespaces import SCHEMAS


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


def stopped_automation(connection: sa.Connection) -> list[str]:
    """Schedules, then sensors, that somebody stopped in Dagster; none where this user may not read Dagster's tables."""
    if not ask(connection, "dagster_is_readable").scalar():
        return []
    return list(ask(connection, "stopped_automation").scalars())
