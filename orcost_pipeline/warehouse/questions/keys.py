"""What is known of API keys, now and over time: the questions behind `orcost keys`, and what rules see of a key.

What stays out: findings about keys, and their review (`key_health.py`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import Rows, ask, records, relation


def keys_with_spend(connection: sa.Connection, account: str | None) -> Rows:
    """A row for each key, deleted ones too, the largest spend of the last 30 days, in USD, first."""
    return relation(connection, "keys_with_spend", account=account)


def key_history(connection: sa.Connection, account: str | None) -> Rows:
    """A row for each key and span of time in which nothing about it changed, oldest first."""
    return relation(connection, "key_history", account=account)


class KeyVersionRow(NamedTuple):
    """One version of a key: what rules may match of it, from `valid_from` on."""

    account: str
    key_hash: str
    valid_from: datetime
    name: str
    label: str
    workspace_id: str | None
    workspace_name: str | None
    creator_user_id: str | None
    creator_email: str | None
    external_user: str | None


def key_versions(connection: sa.Connection, account: str | None) -> list[KeyVersionRow]:
    """Every version of every key, keys together, oldest first."""
    return records(KeyVersionRow, ask(connection, "key_versions", account=account))


class KnownKeys(NamedTuple):
    """The keys of one account: the hashes of all that were ever listed, how many are active, the last use of any."""

    hashes: frozenset[str] = frozenset()
    active: int = 0
    last_used_at: datetime | None = None


def known_keys(connection: sa.Connection) -> Mapping[str, KnownKeys]:
    """By account, those that have any."""
    rows = ask(connection, "known_keys")
    return {row.account: KnownKeys(frozenset(row.hashes), row.active, row.last_used_at) for row in rows}


def deleted_keys(connection: sa.Connection, account: str) -> Mapping[str, datetime]:
    """The deleted keys of an account by hash, and since when."""
    return {row.key_hash: row.deleted_at for row in ask(connection, "deleted_keys", account=account)}
