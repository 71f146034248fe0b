"""What a window cost, and how much of it is known: the questions behind `orcost report`.

A report sums to one of five grains. What is summed is a file, the grain and the order follow from `GRAINS`. Which file
it is depends on the sums that publications keep.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse.questions.asking import Rows, as_relation, ask, sums, usage
from orcost_pipeline.windows import Window, utc_day

Grain = Literal["company", "key", "model", "creator", "workspace"]
UNATTRIBUTED = "Unattributed"

GRAINS: Mapping[Grain, tuple[str, ...]] = {
    "company": ("account", "company"),
    "key": ("account", "key_hash", "key_name", "company"),
    "model": ("account", "model"),
    "creator": ("account", "creator"),
    "workspace": ("account", "workspace"),
}
PREVIOUS = ("previous_credits_usd", "previous_byok_usd")
# Of these, a key's spend is that of who had it on the day.
_HOLDERS = ("creator", "workspace")
# Of these, the sums that publications keep are of all companies together.
_OF_ALL_COMPANIES = ("model", *_HOLDERS)


class KnownSpan(NamedTuple):
    """What is known of a span of time, up to the account's `as_of`: from when on, and whether it is all of it."""

    known_from: datetime | None
    is_complete: bool


_UNKNOWN = KnownSpan(None, is_complete=False)


def rolling_spend(
    connection: sa.Connection, by: Grain, period: str, account: str | None, company: str | None = None
) -> Rows:
    """A row for each value of the grain: the last 24, 168 or 720 hour buckets of each account, the current included.

    The largest spend of an account first, Unattributed last; by company also the spend of the period before. With a
    `company`, its part alone.
    """
    parameters: dict[str, Any] = {"period": period, "account": account, "company": company}
    if company is not None and by in _OF_ALL_COMPANIES:
        rows = _summed(connection, "rolling_company_usage", by, MEASURES, parameters)
    elif by == "company":
        rows = _summed(connection, "rolling_company_spend", by, (*MEASURES, *PREVIOUS), parameters)
    elif by == "key":
        rows = _summed(connection, "rolling_key_spend", by, MEASURES, parameters)
    else:
        rows = _summed(connection, "rolling_spend", by, MEASURES, {**parameters, "by": by})
    return _with_spans(rows, rolling_spans(connection, period))


def spend_between(
    connection: sa.Connection,
    by: Grain,
    window: Window,
    account: str | None,
    company: str | None = None,
    *,
    is_local: bool = False,
) -> Rows:
    """A row for each value of the grain, in any range of whole hours, ordered as those of a rolling period.

    Whole UTC days come from the days, the edges from the hours; of local days all comes from the hours. With a
    `company`, its part alone.
    """
    whole = None if is_local else window.whole_days()
    first, last = (whole.start, whole.end) if whole else (window.start, window.start)
    parameters = {
        "account": account,
        "company": company,
        "first": utc_day(first),
        "last": utc_day(last),
        "hours": [hour for part in ([window] if is_local else window.edges()) for hour in part.hours()],
    }
    if company is not None and by in _OF_ALL_COMPANIES:
        rows = _summed(connection, "company_usage_between", by, MEASURES, parameters)
    elif by == "company":
        rows = _summed(connection, "company_spend_between", by, MEASURES, parameters)
    elif by in _HOLDERS:
        rows = _summed(connection, "holder_spend_between", by, MEASURES, {**parameters, "by": by})
    elif by == "model":
        rows = _summed(connection, "model_spend_between", by, MEASURES, parameters)
    else:
        rows = _summed(connection, "key_spend_between", by, MEASURES, parameters)
    return _with_spans(rows, (known_hours if is_local else known_spans)(connection, window))


def local_window(connection: sa.Connection, time_zone: str, first: date, last: date, account: str | None) -> Window:
    """The hours of the local days from `first` to before `last`.

    Raises PermanentError for a zone that the database does not know, and for days that hours cannot be cut into: not
    whole hours from UTC, or before the known hours of the account (None: of every account).
    """
    try:
        row = ask(connection, "local_window", time_zone=time_zone, first=first, last=last, account=account).one()
    except sqlalchemy.exc.DataError as error:
        if not isinstance(error.orig, psycopg.errors.InvalidParameterValue):
            raise
        raise PermanentError("--time-zone: " + str(error.orig.diag.message_primary) + ".") from None
    return Window(row.start_at, row.end_at)


def known_spans(connection: sa.Connection, window: Window) -> Mapping[str, KnownSpan]:
    """By account, whole days as days and the rest as hours; accounts of which nothing lies in the window left out."""
    rows = ask(connection, "known_spans", start=window.start, end=window.end)
    return {row.account: KnownSpan(row.known_from, row.is_complete) for row in rows}


def known_hours(connection: sa.Connection, window: Window) -> Mapping[str, KnownSpan]:
    """The same by hours alone, as the local days of a time zone are known; by account that was ever synced."""
    rows = ask(connection, "known_hours", start=window.start, end=window.end)
    return {row.account: KnownSpan(row.known_from, row.is_complete) for row in rows}


def rolling_spans(connection: sa.Connection, period: str) -> Mapping[str, KnownSpan]:
    """The same of a rolling period, which is known by its hours."""
    rows = ask(connection, "rolling_spans", period=period)
    return {row.account: KnownSpan(row.known_from, row.is_complete) for row in rows}


class SettledDays(NamedTuple):
    """Days that are settled, and how many of them agree with the account's total."""

    settled: int
    reconciled: int


def settled_days(connection: sa.Connection, window: Window, account: str | None) -> SettledDays:
    """The settled days that lie whole in the window; of several accounts, a day counts once and agrees for all."""
    row = ask(connection, "settled_days", account=account, start=window.start, end=window.end).one()
    return SettledDays(row.settled, row.reconciled)


def _summed(
    connection: sa.Connection, name: str, by: Grain, amounts: tuple[str, ...], parameters: Mapping[str, Any]
) -> Rows:
    """The rows of a file summed to a grain, each with its account's `as_of`."""
    previous = [amount for amount in amounts if amount not in MEASURES]
    rows = usage(name, (*GRAINS[by], "as_of", *previous))
    grain = [rows.c[column] for column in GRAINS[by]]
    is_last = [rows.c.company == UNATTRIBUTED] if "company" in GRAINS[by] else []
    largest_first = [sa.func.sum(rows.c[amount]).desc() for amount in ("credits_usd", "byok_usd")]
    statement = (
        sa.select(*grain, sa.func.max(rows.c.as_of).label("as_of"), *sums(rows, amounts))
        .group_by(*grain)
        .order_by(rows.c.account, *is_last, *largest_first, *grain)
    )
    return as_relation(connection.execute(statement, parameters))


def _with_spans(rows: Rows, spans: Mapping[str, KnownSpan]) -> Rows:
    """Each row with what is known of its account in the period."""
    spanned = [{**row, **spans.get(row["account"], _UNKNOWN)._asdict()} for row in rows.rows]
    return Rows((*rows.columns, *KnownSpan._fields), spanned)
