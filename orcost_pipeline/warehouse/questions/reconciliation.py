"""Why an account's total and its keys differ, by day: the questions behind `orcost reconcile`. Amounts are USD."""

from datetime import date

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import Rows, relation


def reconciled_days(connection: sa.Connection, account: str | None, first: date, last: date) -> Rows:
    """A row for each account and UTC day, oldest first: what was charged, what the keys explain, why they differ."""
    return relation(connection, "reconciled_days", account=account, first=first, last=last)


def unkeyed_spend(connection: sa.Connection, account: str | None, day: date) -> Rows:
    """A row for each name under which a day has spend that no key explains, with the keys that it may be of.

    `key_hashes` is null for spend without a key and for a name that no listed key ever had.
    """
    return relation(connection, "unkeyed_spend", account=account, day=day)


def disagreeing_keys(connection: sa.Connection, account: str | None, day: date) -> Rows:
    """A row for each key, or the residual, whose hours do not sum to its day."""
    return relation(connection, "disagreeing_keys", account=account, day=day)


def restatements(connection: sa.Connection, account: str | None, day: date) -> Rows:
    """A row for each key, model and sync that found the settled day changed."""
    return relation(connection, "restatements", account=account, day=day)


def replaced_counters(connection: sa.Connection, account: str | None, day: date) -> Rows:
    """A row for each time that analytics reported a day again that had been known by counters alone."""
    return relation(connection, "replaced_counters", account=account, day=day)
