"""How many rows usage has before it is read: of the account, so that no answer is truncated; by key, so that no more
are held at a time than memory should hold."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction

from orcost_pipeline.measures import grouped
from orcost_pipeline.openrouter.api.limits import ROW_LIMIT
from orcost_pipeline.openrouter.api.records import ActivityRow
from orcost_pipeline.openrouter.reading import AnalyticsReading
from orcost_pipeline.windows import DAY, HOUR, Window, day_start, days_between, first_whole_day, utc_day

# Parts differ in how many of the rows that they may have they turn out to have.
MARGIN = Fraction(10, 9)


def rows_by_hour(activity: Iterable[ActivityRow]) -> dict[datetime, int]:
    """About how many rows by hour and model the hours of each UTC day have: no model has more than it had requests."""
    requests = grouped(((row.date, row.model_permaslug), row.measures) for row in activity)
    of_day: Counter[date] = Counter()
    for (day, _), measures in requests.items():
        of_day[day] += min(24, math.ceil(measures.requests))
    return {day_start(day) + i * HOUR: math.ceil(rows / 24) for day, rows in of_day.items() for i in range(24)}


def division_bounds(window: Window, known: Mapping[datetime, int]) -> dict[datetime, int] | None:
    """About how many rows each hour of a window has, where some are known: others as many as the fullest one. None
    where one answer is expected to have all of them, so that the window is not divided."""
    fullest = max(known.values(), default=0)
    rows = {at: known.get(at, fullest) for at in window.hours()}
    return rows if sum(rows.values()) >= ROW_LIMIT else None


@dataclass
class RowEstimate:
    """most: at most how many rows each hour (or day) has, by its start; share: which share of that is expected, learnt
    from the parts read so far."""

    most: Mapping[datetime, int]
    share: Fraction = Fraction(1)

    def note_rows(self, part: Sequence[Window], reading: AnalyticsReading) -> None:
        """Learns the share from a part that was read."""
        rows = sum(len(answer.cells) for answer in reading.keys)
        if rows and (most := self._most(part)):
            self.share = min(Fraction(1), MARGIN * Fraction(rows, most))

    def next_part(self, windows: Sequence[Window], most_rows: int) -> tuple[list[Window], list[Window]]:
        """The part to read next, and the rest of the windows. It is all of them where at most so many rows are
        expected; else the oldest whole UTC days of one window that they fit in, and at least one day."""
        room = most_rows / self.share
        if self._most(windows) <= room:
            return list(windows), []
        first, *others = sorted(windows)
        part, *later = _days_of(first)
        room -= self._most([part])
        while later and (room := room - self._most(later[:1])) >= 0:
            part = Window(part.start, later.pop(0).end)
        rest = [Window(part.end, first.end)] if part.end < first.end else []
        return [part], [*rest, *others]

    def _most(self, windows: Sequence[Window]) -> int:
        return sum(count for at, count in self.most.items() if any(at in window for window in windows))


def _days_of(window: Window) -> list[Window]:
    """The window cut at each midnight, UTC, that lies inside."""
    inside = map(day_start, days_between(first_whole_day(window.start), utc_day(window.end) + DAY))
    starts = sorted({window.start, *(at for at in inside if at < window.end)})
    return [Window(start, end) for start, end in zip(starts, [*starts[1:], window.end], strict=True)]
