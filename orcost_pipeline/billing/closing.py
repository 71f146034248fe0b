"""Closing a month, so that nothing changes what its statements say; and opening it again.

A closed month keeps its lines, rates, names and documents. What changes of it later is charged in the next open month,
as an adjustment (`core.adjustment`).
"""

import getpass
import shlex
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

import sqlalchemy as sa

from orcost_pipeline.billing.statement import Statement, read_statements, require_company, require_rates
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.text import few, listed, plural, quoted
from orcost_pipeline.warehouse.locks import CLOSING_LOCK, kept_lock
from orcost_pipeline.warehouse.questions import billing
from orcost_pipeline.warehouse.questions.asking import records
from orcost_pipeline.warehouse.questions.billing import ChargedMonth, CompanyMonth, Documents, Obstacle, VoidStatement
from orcost_pipeline.warehouse.statements import change
from orcost_pipeline.windows import day_start, next_month

# Obstacles that --accept-open accepts.
ACCEPTABLE = frozenset({"open", "counted", "part", "unknown", "gone"})
# Those of months before the account's history, or in which it begins.
PARTLY_KNOWN = frozenset({"part", "unknown"})

# A statement as page, CSV and JSON.
Render = Callable[[Statement], Documents]


@dataclass(frozen=True)
class Closing:
    """What was done: the companies whose month was closed now, and what was accepted for it. `is_new` is False where
    the month was closed already."""

    companies: tuple[str, ...]
    accepted: str | None
    is_new: bool


def open_months(engine: sa.Engine, upto: date, company: str | None, now: datetime) -> list[date]:
    """The first days of the months to close for a company or (None) for every one: open earlier ones, then `upto`.

    Raises PermanentError where `upto` has not ended.
    """
    _require_ended(upto, now)
    with engine.connect() as connection:
        months = billing.charged_months(connection, upto)
    return sorted({upto, *(it.month for it in months if it.status == "open" and company in (None, it.company))})


def close_month(
    engine: sa.Engine,
    month: date,
    company: str | None,
    *,
    accepts: Collection[str],
    configured: Collection[str],
    render: Render,
    now: datetime,
    edited: Collection[str] = (),
) -> Closing:
    """Closes the month that begins on a day, for a company or (None) for every one, and keeps its statements.

    Raises PermanentError, and changes nothing, for a month that has not ended, or whose days are not settled; where an
    earlier month is open, a currency has no rate, or an account is not published by what is in force; and, unless their
    kind is among `accepts` (of ACCEPTABLE), for days that do not reconcile or that only counters know, a month that an
    account knows in part or not at all, and accounts that are not among the configured ones.

    edited: files that are not in force as they are written now; with any, the month is refused.
    """
    _require_ended(month, now)
    with _at_one_instant(engine) as connection:
        if company is not None:
            require_company(connection, company)
        months = billing.charged_months(connection, month)
        open_ones = [it for it in months if it.status == "open" and company in (None, it.company)]
        to_close = [it for it in open_ones if it.month == month]
        if billing.is_closed(connection, month, company):
            return Closing((), None, is_new=False)
        if edited:
            raise PermanentError(
                f"{month:%Y-%m} is not closed: changes of {listed(edited)} are not in force yet.\n"
                "Bring them into force first: orcost sync, which says what is wrong where it refuses them"
            )
        _require_earlier_closed(open_ones, month)
        require_rates(to_close)
        accepted = _accepted(billing.obstacles(connection, month, company, configured), month, accepts)
        closed = {"month": month, "company": company}
        change(connection, "close_month", **closed)
        change(connection, "close_adjustments", **closed)
        change(connection, "close_lines", **closed)
        change(connection, "note_closing", **closed, at=now, who=_who(), accepted=accepted)
        names = tuple(it.company for it in to_close)
        for statement in read_statements(connection, names, month):
            kept = render(statement)
            change(connection, "keep_documents", month=month, company=statement.head.company, **kept._asdict())
        return Closing(names, accepted, is_new=True)


def reopen_month(
    engine: sa.Engine, month: date, company: str | None, reason: str, now: datetime
) -> list[VoidStatement]:
    """Opens a closed month again, for a company or (None) for every one: it and its adjustments are live again.

    Returns the statements that are void now, which stay in `ops.void_statement`. Raises PermanentError for a month that
    is not closed, while a later one is closed, and without a reason.
    """
    if not reason.strip():
        raise PermanentError("Say why the month is opened again: --reason TEXT")
    with _at_one_instant(engine) as connection:
        if company is not None:
            require_company(connection, company)
        whose = f"{quoted(company)} in " if company else ""
        closed = [
            it
            for it in billing.closed_months(connection)
            if it.company != UNATTRIBUTED and company in (None, it.company)
        ]
        if not billing.is_closed(connection, month, company) and not any(it.month == month for it in closed):
            raise PermanentError(f"{whose}{month:%Y-%m} is not closed.")
        if later := [it for it in closed if it.month > month]:
            alone = f" --company {shlex.quote(company)}" if company else ""
            raise PermanentError(
                f"{month:%Y-%m} cannot be opened again while a later month is closed: {_named(later)}.\n"
                f"Open the last one first: orcost reopen {later[-1].month:%Y-%m}{alone} --reason TEXT"
            )
        reopened = {"month": month, "company": company}
        void = records(VoidStatement, change(connection, "void_statements", **reopened, at=now))
        change(connection, "note_reopening", **reopened, at=now, who=_who(), reason=reason.strip())
        change(connection, "drop_closed_months", **reopened)
    return sorted(void, key=lambda it: it.company)


@contextmanager
def _at_one_instant(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that sees one state of the warehouse, one at a time, committed when the block ends well.

    The lock is taken before: a transaction that waited for it would see what was there when it began to wait.
    """
    with kept_lock(engine, CLOSING_LOCK, "months") as still_held, engine.connect() as plain:
        connection = plain.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection
            still_held()


def _require_ended(month: date, now: datetime) -> None:
    if now < day_start(next_month(month)):
        raise PermanentError(f"{month:%Y-%m} has not ended: it can be closed after its last day is settled.")


def _require_earlier_closed(open_ones: Iterable[ChargedMonth], month: date) -> None:
    earlier = [it for it in open_ones if it.month < month]
    if earlier:
        raise PermanentError(
            f"{month:%Y-%m} cannot be closed while an earlier month is open: {_named(earlier)}.\n"
            f"Months are closed in their order. The first one: orcost close {earlier[0].month:%Y-%m}; all of them, the "
            f"oldest first: orcost close {month:%Y-%m} --with-earlier"
        )


def _accepted(found: Sequence[Obstacle], month: date, accepts: Collection[str]) -> str | None:
    """What is accepted, as a sentence; None where nothing has to be. Raises PermanentError where something may not."""
    fatal = [it for it in found if it.kind not in ACCEPTABLE]
    if fatal:
        raise PermanentError(
            "\n".join([f"{month:%Y-%m} cannot be closed yet:", *few([f"  {_words(it)}" for it in fatal])])
        )
    if any(it.kind not in accepts for it in found):
        doubts = [_words(it) for it in found if it.kind not in accepts]
        lines = [f"{month:%Y-%m} is not closed, as it is not certain:", *few([f"  {it}" for it in doubts])]
        raise PermanentError("\n".join([*lines, "To close it as it is: --accept-open"]))
    return "; ".join(_words(it) for it in found) or None


def _words(it: Obstacle) -> str:
    """An obstacle, with its account and days."""
    days = f"{it.first_day}" if it.days == 1 else f"{plural(it.days, 'day')} from {it.first_day} to {it.last_day}"
    account = f"account {quoted(it.account)}"
    match it.kind:
        case "young" if it.as_of is None:
            return f"{account} was never synced"
        case "young":
            needed = day_start(it.last_day + timedelta(days=1)) + timedelta(hours=2)
            return f"{account} is complete to {it.as_of:%Y-%m-%d %H:%M} only; {needed:%Y-%m-%d %H:%M} UTC is needed"
        case "unsettled":
            return f"{account}: not settled: {days}"
        case "counted":
            return f"{account}: known from counters only: {days}"
        case "open":
            return f"{account}: does not reconcile: {days} (orcost reconcile --day {it.first_day})"
        case "unknown":
            return f"{account}: nothing is known of the month"
        case "pending":
            return f"{account} is not charged by the mapping and price plans in force yet: orcost sync"
        case "part":
            return f"{account}: known from {it.first_day} on only"
        case _:
            return f"{account} is not configured any more: what it has is charged as when it was synced last"


def _named(months: Iterable[ChargedMonth | CompanyMonth]) -> str:
    """Months with their companies, of many the first ones."""
    named = [
        f"{month:%Y-%m} ({listed(it.company for it in of_month)})"
        for month, of_month in groupby(months, key=lambda it: it.month)
    ]
    return "; ".join(few(named, most=3))


def _who() -> str:
    """The user of this machine, for the record."""
    user = "unknown"
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"
