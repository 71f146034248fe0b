"""The request of `orcost report`: its options as a rolling period, a window of whole UTC hours, or local days."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.spend import (
    Grain,
    KnownSpan,
    known_hours,
    known_spans,
    local_window,
    rolling_spans,
    rolling_spend,
    spend_between,
)
from orcost_pipeline.windows import DAY, HOUR, ROLLING_HOURS, Window, ceil, hour_floor, month_start, utc_day

PERIODS = {"24h": "last 24 hours", "7d": "last 7 days", "30d": "last 30 days"}


class LocalDays(NamedTuple):
    """The days of a time zone from `first` to before `last`."""

    time_zone: str
    first: date
    last: date


@dataclass(frozen=True)
class ReportRequest:
    """A grain, optionally one account or company, and either a rolling period or a window of whole UTC hours.

    `month` is the name of the month that the window is. The window of `local` days is known once it is `placed`.
    """

    by: Grain
    account: str | None
    label: str
    company: str | None = None
    period: str | None = None
    month: str | None = None
    window: Window | None = None
    local: LocalDays | None = None

    def placed(self, connection: sa.Connection) -> "ReportRequest":
        """The request with the hours of its local days; raises PermanentError where hours cannot be cut into them."""
        return replace(self, window=local_window(connection, *self.local, self.account)) if self.local else self

    def spend(self, connection: sa.Connection, by: Grain | None = None) -> Rows:
        """The spend of the request, one row per account and `by` (by default its own grain)."""
        if self.window:
            is_local = self.local is not None
            return spend_between(connection, by or self.by, self.window, self.account, self.company, is_local=is_local)
        return rolling_spend(connection, by or self.by, self.period or "30d", self.account, self.company)

    def span(self, as_of: datetime) -> Window:
        """The window of the request; for a rolling period, of an account that is complete to `as_of`."""
        if self.window:
            return self.window
        hours = ROLLING_HOURS[self.period or "30d"]
        return Window(hour_floor(as_of) - (hours - 1) * HOUR, as_of)

    def before(self, end: datetime) -> "ReportRequest | None":
        """The span before, as long as this one up to `end`; of a month, the month before up to the same day and hour.

        None of a rolling period, whose rows say what was spent before, and of a window that begins after `end`.
        """
        if self.window is None or self.window.start >= end:
            return None
        start, length = self.window.start, min(self.window.end, ceil(end, HOUR)) - self.window.start
        if self.month is None:
            return replace(self, window=Window(start - length, start))
        earlier = month_start(start - HOUR)
        is_whole = length == self.window.end - start or earlier + length >= start
        label = f"{earlier:%B %Y}"
        return replace(self, label=label, window=Window(earlier, start if is_whole else earlier + length))

    def known(self, connection: sa.Connection) -> Mapping[str, KnownSpan]:
        """The known part of the window, by account."""
        if self.window:
            return (known_hours if self.local else known_spans)(connection, self.window)
        return rolling_spans(connection, self.period or "30d")


def report_request(
    by: Grain,
    account: str | None,
    period: str | None,
    month: str | None,
    start: str | None,
    end: str | None,
    now: datetime,
    company: str | None = None,
    time_zone: str | None = None,
) -> ReportRequest:
    """The request of the options; raises PermanentError for contradicting or invalid ones."""
    if sum((period is not None, month is not None, (start or end) is not None)) > 1:
        raise PermanentError("--period, --month and --from/--to exclude each other. Give one of them.")
    if time_zone is not None:
        if period is not None or (month or start) is None:
            raise PermanentError("--time-zone cuts days: give --month, or --from and --to as days.")
        days = _local_days(time_zone, month, start, end, now)
        name = f"{days.first:%B}" if month else None
        return ReportRequest(by, account, _label(days, month, end), company, month=name, local=days)
    if month is not None:
        window = month_window(month)
        return ReportRequest(by, account, f"{window.start:%B %Y}", company, month=f"{window.start:%B}", window=window)
    if start is not None or end is not None:
        return ReportRequest(by, account, "", company, window=between(start, end, now))
    return ReportRequest(by, account, PERIODS[period or "30d"], company, period=period or "30d")


def _local_days(time_zone: str, month: str | None, start: str | None, end: str | None, now: datetime) -> LocalDays:
    if month is not None:
        window = month_window(month)
        return LocalDays(time_zone, window.start.date(), window.end.date())
    first = _day("--from", start or "")
    # The running day of every zone ends before the UTC day after tomorrow does.
    last = _day("--to", end) if end else utc_day(now) + 2 * DAY
    if last <= first:
        raise PermanentError(f"--to must be later than --from ({start}); it is exclusive.")
    return LocalDays(time_zone, first, last)


def _label(days: LocalDays, month: str | None, end: str | None) -> str:
    """The days as a heading names them, both ends included."""
    first, last = days.first, days.last - DAY
    span = f"{first:%B %Y}" if month else f"since {first}" if end is None else f"{first} – {last}"
    return f"{first if first == last else span} in {days.time_zone}"


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise PermanentError(f'{option} "{text}" is not a day written 2026-11-01, as --time-zone needs it.') from None


def month_window(text: str) -> Window:
    """The UTC month of a `--month`; raises PermanentError where it is not written YYYY-MM."""
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise PermanentError(f'--month "{text}" is not a month written 2026-10.') from None
    if first.year == MAXYEAR:
        raise PermanentError(f'--month "{text}" is too far in the future.')
    return Window(first, (first + timedelta(days=31)).replace(day=1))


def between(start: str | None, end: str | None, now: datetime) -> Window:
    """The whole UTC hours of `--from` and `--to`, by default up to now; raises PermanentError for anything else."""
    if start is None:
        raise PermanentError("--to needs --from: the first hour of the window.")
    window = Window(_whole_hour("--from", start), _whole_hour("--to", end) if end else ceil(now, HOUR))
    if window.end <= window.start:
        raise PermanentError(f"--to must be later than --from ({start}); it is exclusive.")
    return window


def _whole_hour(option: str, text: str) -> datetime:
    """The instant of a date (its first hour) or a time, UTC without a zone; raises PermanentError for others."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise PermanentError(
            f'{option} "{text}" is neither a date (2026-11-01) nor a time (2026-11-01T13:00).'
        ) from None
    instant = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    if instant != hour_floor(instant):
        raise PermanentError(f'{option} "{text}" is not a whole UTC hour.')
    return instant
