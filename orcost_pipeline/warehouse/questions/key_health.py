"""What findings about single API keys are derived from, and the review of all keys."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import Rows, ask, records, relation


class LimitedKey(NamedTuple):
    """A key that is in use and near its limit, in USD per `limit_reset` (None: for good)."""

    account: str
    key_hash: str
    key_name: str
    limit_usd: Decimal
    limit_reset: str | None
    used_percent: Decimal


def limited_keys(connection: sa.Connection, percent: Decimal) -> Sequence[LimitedKey]:
    """The keys that used `percent` of their limit or more, neither disabled nor expired nor deleted."""
    return records(LimitedKey, ask(connection, "limited_keys", percent=percent))


class NewKey(NamedTuple):
    """A key that appeared after its account's first sync and belongs to nobody; USD of the last 30 days."""

    account: str
    key_hash: str
    key_name: str
    first_seen_at: datetime
    credits_usd: Decimal
    byok_usd: Decimal


def new_unattributed_keys(connection: sa.Connection) -> Sequence[NewKey]:
    """Such keys that are not deleted and have spend in the last 30 days."""
    return records(NewKey, ask(connection, "new_unattributed_keys"))


def key_review(connection: sa.Connection, account: str | None) -> Rows:
    """`marts.key_review`, what is worth doing first."""
    return relation(connection, "key_review", account=account)
