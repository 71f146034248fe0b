"""The mapping in force and those before it, what it attributes as published, and what it leaves Unattributed.

The questions behind `orcost map`, the assignment and coverage. Amounts are exact USD.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import Rows, ask, records, relation


class RuleRow(NamedTuple):
    """One line of a mapping: a company's share, in percent, of what a rule matches."""

    line: int
    position: int
    company: str
    match: str
    pattern: str
    account: str | None
    valid_from: date | None
    valid_to: date | None
    share: Decimal
    note: str | None


class MappingVersion(NamedTuple):
    """A version of the mapping that came into force, and how many rules it changed; None where that was not noted."""

    version: int
    loaded_at: datetime
    source: str
    content_sha256: str
    rule_count: int
    rules_added: int | None
    rules_removed: int | None
    rules_changed: int | None
    rules_moved: int | None


class PublishedOwner(NamedTuple):
    """A company's share (0–1) of a key from `valid_from` to before `valid_to`, None being without limit."""

    key_hash: str
    valid_from: date | None
    valid_to: date | None
    company: str
    share: Decimal
    rule: str | None


class KeyDayRow(NamedTuple):
    """What one key, or none (None), used on one UTC day, in USD."""

    key_hash: str | None
    day: date
    credits_usd: Decimal
    byok_usd: Decimal


class Totals(NamedTuple):
    """What an account spent on all days that are known, and how much of it is Unattributed, in USD."""

    credits_usd: Decimal
    byok_usd: Decimal
    unattributed_credits_usd: Decimal
    unattributed_byok_usd: Decimal


def mapping_versions(connection: sa.Connection) -> list[MappingVersion]:
    """Every version there was, the newest first."""
    return _versions(connection)


def version_in_force(connection: sa.Connection, at: datetime | None = None) -> MappingVersion | None:
    """The version in force at an instant, now by default."""
    return next(iter(_versions(connection, at, most=1)), None)


def _versions(connection: sa.Connection, at: datetime | None = None, most: int | None = None) -> list[MappingVersion]:
    return records(MappingVersion, ask(connection, "mapping_versions", at=at, most=most))


def rules_in_force(connection: sa.Connection, at: datetime | None = None) -> Sequence[RuleRow]:
    """The lines of the mapping in force, in the order of the file; none where none was ever loaded."""
    version = version_in_force(connection, at)
    return rules_of_version(connection, version.version) if version else []


def rules_of_version(connection: sa.Connection, version: int) -> Sequence[RuleRow]:
    """The lines of a version, in the order of the file."""
    return records(RuleRow, ask(connection, "mapping_rules", version=version))


def rules_naming(connection: sa.Connection, account: str) -> int:
    """How many lines of the mapping in force are for this account alone."""
    return ask(connection, "rules_naming", account=account).scalar_one()


def published_owners(connection: sa.Connection, account: str) -> list[PublishedOwner]:
    """Who owns the account's keys as published, key by key, oldest span first."""
    return records(PublishedOwner, ask(connection, "published_owners", account=account))


def key_days(connection: sa.Connection, account: str, key_hashes: Collection[str]) -> Sequence[KeyDayRow]:
    """Every day of these keys."""
    return _key_days(connection, account, key_hashes=list(key_hashes))


def key_days_since(connection: sa.Connection, account: str, first: date) -> Sequence[KeyDayRow]:
    """All usage from a day on."""
    return _key_days(connection, account, first=first)


def _key_days(
    connection: sa.Connection, account: str, key_hashes: list[str] | None = None, first: date | None = None
) -> Sequence[KeyDayRow]:
    return records(KeyDayRow, ask(connection, "key_days", account=account, key_hashes=key_hashes, first=first))


def account_totals(connection: sa.Connection, account: str) -> Totals:
    """What the account spent on all days that are known, in USD; zeros for an account without usage."""
    return records(Totals, ask(connection, "account_totals", account=account))[0]


def unattributed_keys(connection: sa.Connection, account: str | None) -> Rows:
    """A row for each key, or none, with Unattributed spend, the most expensive first, then keys without spend."""
    return relation(connection, "unattributed_keys", account=account)
