"""UTC hours, days and windows. `now` is always an argument: nothing here reads the clock."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

# How far the clocks of two well-kept machines may differ.
CLOCKS_AGREE_WITHIN = timedelta(minutes=1)
# From here on, one of the two clocks is wrong.
CLOCK_WRONG = timedelta(minutes=5)

# Data is stale after two missed hours.
STALE_AFTER = 2 * HOUR

# Hour buckets of the rolling periods, the current one included.
ROLLING_HOURS = {"24h": 24, "7d": 168, "30d": 720}

# OpenRouter answers by hour for 31 days at least; the oldest bucket must lie whole inside them.
HOURS_REACH = 743 * HOUR
ACTIVITY_DAYS = 30
# OpenRouter answers by day for 365 days; the oldest must lie whole inside them.
DAYS_REACH = 364 * DAY
# A day that ended this long ago is settled in any case.
SETTLED_AFTER = timedelta(hours=48)
# Near midnight the server may already have dropped the oldest day, so that its absence proves nothing.
CLOCK_MARGIN = timedelta(minutes=10)


@dataclass(frozen=True, order=True)
class Window:
    """The half-open span of time [start, end), aware and UTC."""

    start: datetime
    end: datetime

    def __contains__(self, instant: object) -> bool:
        return isinstance(instant, datetime) and self.start <= instant < self.end

    def halves(self, grain: timedelta = HOUR) -> "tuple[Window, Window] | None":
        """Two windows that meet on a whole hour (or day), or None where none lies inside."""
        buckets = -((floor(self.start, grain) - self.end) // grain)
        if buckets < 2:
            return None
        middle = floor(self.start, grain) + (buckets // 2) * grain
        return Window(self.start, middle), Window(middle, self.end)

    def cut(self, at: datetime) -> "list[Window]":
        """The parts before and after an instant; itself where that is not inside."""
        return [Window(self.start, at), Window(at, self.end)] if self.start < at < self.end else [self]

    def whole_days(self) -> "Window | None":
        """The UTC days that lie whole inside, None where none does."""
        first, last = ceil(self.start, DAY), floor(self.end, DAY)
        return Window(first, last) if first < last else None

    def edges(self) -> "list[Window]":
        """The parts that are not whole UTC days: all of it, or up to one before and one after the whole days."""
        whole = self.whole_days()
        if whole is None:
            return [self] if self.start < self.end else []
        parts = Window(self.start, whole.start), Window(whole.end, self.end)
        return [part for part in parts if part.start < part.end]

    def hours(self) -> list[datetime]:
        """The starts of the UTC hours that the window touches."""
        first, count = hour_floor(self.start), int((ceil(self.end, HOUR) - hour_floor(self.start)) / HOUR)
        return [first + i * HOUR for i in range(count)]


def hour_floor(instant: datetime) -> datetime:
    """The start of the hour that holds the instant."""
    return instant.replace(minute=0, second=0, microsecond=0)


def floor(instant: datetime, grain: timedelta) -> datetime:
    """The start of the UTC hour or day that holds the instant."""
    return hour_floor(instant) if grain == HOUR else day_start(utc_day(instant))


def ceil(instant: datetime, grain: timedelta) -> datetime:
    """The first start of a UTC hour or day that is not before the instant."""
    start = floor(instant, grain)
    return start if start == instant else start + grain


def day_start(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def day_end(day: date) -> datetime:
    """The start of the next UTC day."""
    return day_start(day) + DAY


def is_future(instant: datetime, now: datetime) -> bool:
    """Whether an instant is more than `CLOCK_WRONG` ahead of `now`, so that a clock must have been wrong."""
    return instant - now > CLOCK_WRONG


def utc_day(instant: datetime) -> date:
    """The UTC day of an instant."""
    return instant.astimezone(UTC).date()


def surely_one_day(first: datetime, last: datetime) -> date | None:
    """The UTC day of both instants; None so near midnight that another clock may show another day."""
    day = utc_day(first - CLOCKS_AGREE_WITHIN)
    return day if day == utc_day(last + CLOCKS_AGREE_WITHIN) else None


def month_start(instant: datetime) -> datetime:
    """The start of the UTC month that holds the instant."""
    return day_start(utc_day(instant).replace(day=1))


def next_month(day: date) -> date:
    """The first day of the month after that of a day."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def first_whole_day(since: datetime) -> date:
    """The first UTC day that lies whole after `since`."""
    day = utc_day(since)
    return day if day_start(day) == since else day + DAY


def days_between(first: date, end: date) -> list[date]:
    """The days from `first` to before `end`."""
    return [first + timedelta(days=i) for i in range((end - first).days)]


def first_activity_day(as_of: datetime) -> date:
    """The first UTC day that activity is sure to report at `as_of`."""
    return utc_day(as_of + CLOCK_MARGIN) - timedelta(days=ACTIVITY_DAYS)


def first_analytics_day(as_of: datetime) -> date:
    """The first UTC day that daily analytics are sure to report at `as_of`."""
    return utc_day(as_of + CLOCK_MARGIN) - DAYS_REACH


def hours_window(as_of: datetime) -> Window:
    """Every hour that the API is sure to know at `as_of`: 743 whole buckets and the current one."""
    return Window(hour_floor(as_of) - HOURS_REACH, as_of)


def joined(windows: Iterable[Window]) -> list[Window]:
    """The windows in order, overlapping ones merged."""
    result: list[Window] = []
    for window in sorted(windows):
        if result and window.start < result[-1].end:
            result[-1] = Window(result[-1].start, max(window.end, result[-1].end))
        else:
            result.append(window)
    return result


def without(windows: Iterable[Window], others: Iterable[Window]) -> list[Window]:
    """The parts of the windows that lie in none of the others."""
    left = list(windows)
    for other in others:
        pieces = [piece for window in left for part in window.cut(other.start) for piece in part.cut(other.end)]
        left = [piece for piece in pieces if piece.end <= other.start or piece.start >= other.end]
    return left


def covering(starts: Iterable[datetime], end: datetime, grain: timedelta = HOUR, at_most: int = 4) -> list[Window]:
    """At most `at_most` windows that cover the hours (or days) beginning at `starts`, none reaching beyond `end`.

    Hours less than a day apart share a window: each window costs a request per batch of keys, more hours cost little.
    """
    spans: list[list[datetime]] = []
    for start in sorted(set(starts)):
        if spans and start - spans[-1][1] < DAY:
            spans[-1][1] = start + grain
        else:
            spans.append([start, start + grain])
    while len(spans) > at_most:
        nearest = min(range(1, len(spans)), key=lambda i: spans[i][0] - spans[i - 1][1])
        spans[nearest - 1][1] = spans.pop(nearest)[1]
    return [Window(start, min(stop, end)) for start, stop in spans if start < end]
