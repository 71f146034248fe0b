"""What one extraction read of an account, before it is published: a sync goes on from it.

Stays out: which extraction that is, and whether it is whole (`warehouse/raw.py`).
"""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import ask, records


class ExtractedAccount(NamedTuple):
    """The account as its key was shown it; USD are those of `GET /credits`, None where they are not reported."""

    is_management_key: bool
    organization_id: str | None
    credits_total_usd: Decimal | None
    credits_used_usd: Decimal | None


class ExtractedKey(NamedTuple):
    """A listed key; USD since it was made, of credits and of BYOK. `counters_day` is the UTC day of daily counters."""

    key_hash: str
    name: str | None
    label: str
    created_at: datetime | None
    last_used_at: datetime | None
    usage_usd: Decimal
    byok_usage_usd: Decimal
    counters_day: date | None


def extracted_account(connection: sa.Connection, account: str, extraction_id: str) -> ExtractedAccount:
    """The account of an extraction that has read it; raises ValueError for another."""
    (found,) = records(
        ExtractedAccount, ask(connection, "extracted_account", account=account, extraction_id=extraction_id)
    )
    return found


def listed_workspaces(connection: sa.Connection, account: str, extraction_id: str | None) -> list[str]:
    """The ids of the workspaces that were listed."""
    return list(ask(connection, "listed_workspaces", account=account, extraction_id=extraction_id).scalars())


def extracted_keys(connection: sa.Connection, account: str, extraction_id: str) -> Sequence[ExtractedKey]:
    """The keys that were listed or answered by hash; not those that were found deleted."""
    return records(ExtractedKey, ask(connection, "extracted_keys", account=account, extraction_id=extraction_id))
