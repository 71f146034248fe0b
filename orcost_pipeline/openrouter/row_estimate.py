"""How many rows by key usage has, before it is read: so that no more are held at a time than memory should hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from orcost_pipeline.openrouter.reading import AnalyticsReading
from orcost_pipeline.windows import DAY, Window, day_start, days_between, first_whole_day, utc_day

# Parts differ in how many of the rows that they may have they turn out to have.
MARGIN = Fraction(10, 9)


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
