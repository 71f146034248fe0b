"""How the window of a question is divided into parts that are answered whole, the newest first.

What belongs here: how long the next part is, from what is known of its rows and from answers that were not whole. What
stays out: limits that hold for every question (`limits.py`), requests (`analytics.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from orcost_pipeline.openrouter.api.limits import Limits, half
from orcost_pipeline.windows import Window, ceil, floor

# Rows of a full answer, as a share of the limit, that a part is chosen for: hours differ in how many of the rows that
# they may have they turn out to have.
FILLED = Fraction(9, 10)
# An answer with this share of another's rows is nearly as large.
NEARLY = Fraction(9, 10)


@dataclass
class RowBounds:
    """At most how many rows the hours (or days) of a question have, and which share of that they turn out to have.

    by_start: an upper bound by the start of each hour (or day) that has any row; without any, nothing is divided.
    share: rows of the last answer as a share of its bound; 1 before the first, which therefore is not truncated.
    """

    by_start: Mapping[datetime, int]
    grain: timedelta
    share: Fraction = Fraction(1)

    def longest_end(self, window: Window, most_rows: int) -> timedelta:
        """The length of the longest end of a window whose answer is expected to have fewer rows; at least an hour
        (or day)."""
        # An answer that is full counts as truncated.
        left = (most_rows - 1) / self.share * (1 if self.share == 1 else FILLED)
        for at in self._starts(window):
            left -= self.by_start[at]
            if left < 0:
                newest = floor(window.end - timedelta.resolution, self.grain)
                return window.end - max(window.start, min(at + self.grain, newest))
        return window.end - window.start

    def expected(self, window: Window) -> Fraction:
        """How many rows a window has where its hours (or days) are as full as the last ones."""
        return self.share * self._bound(window)

    def note_answer(self, window: Window, rows: int) -> None:
        """Learns the share from an answer."""
        if rows and (bound := self._bound(window)):
            self.share = min(Fraction(1), Fraction(rows, bound))

    def note_truncated(self, rest: Window, part: Window, most_rows: int) -> bool:
        """Learns that there are more rows than expected; returns whether a smaller part of the rest is expected to fit.

        part: the end of the rest whose answer was truncated.
        """
        self.share = min(Fraction(1), 2 * self.share)
        return self.longest_end(rest, most_rows) < part.end - part.start

    def _bound(self, window: Window) -> int:
        return sum(self.by_start[at] for at in self._starts(window))

    def _starts(self, window: Window) -> list[datetime]:
        """Starts of hours (or days) with rows that the window touches, the newest first."""
        first = floor(window.start, self.grain)
        return sorted((at for at in self.by_start if first <= at < window.end), reverse=True)


@dataclass
class _Doubt:
    """A part whose answer had so many rows and may lack some, and the rows of its own parts so far."""

    window: Window
    rows: int
    rows_of_parts: int = 0


class Division:
    """The parts of one question's window. `rest` is what is not answered yet.

    most_rows: at most how many rows each hour (or day) has, by its start. Without it the window is asked for as a
    whole, and halved where the answer is not whole.
    """

    def __init__(
        self, window: Window, grain: timedelta, limits: Limits, most_rows: Mapping[datetime, int] | None
    ) -> None:
        first = limits.grains[grain].reported_from or window.start
        self.rest = Window(max(window.start, first), window.end)
        self._grain = grain
        self._limits = limits
        self.most_rows = most_rows
        self._bounds = RowBounds(most_rows or {}, grain)
        self._doubt: _Doubt | None = None
        # Of every part to come, and of the next one.
        self._longest = self._size = limits.grains[grain].longest or window.end - window.start

    def part(self) -> Window:
        """The newest part of the rest, beginning on a whole hour (or day)."""
        return self._newest_part(self.rest)

    def parts(self, most: int) -> list[Window]:
        """The newest parts of the rest, to be asked for at the same time.

        One while nothing is known of how full answers are, and until one nearly as large was whole: where an answer
        is not, those about later parts are of no use.
        """
        parts = [self.part()]
        is_usual = self._bounds.share < 1 and NEARLY * self._bounds.expected(parts[0]) <= self._limits.rows_answered
        # What a doubt is about is asked for in short parts; nothing before it is.
        oldest = self._doubt.window.start if self._doubt else self.rest.start
        while is_usual and len(parts) < most and parts[-1].start > oldest:
            parts.append(self._newest_part(Window(self.rest.start, parts[-1].start)))
        return parts

    def _newest_part(self, window: Window) -> Window:
        start, size = window.start, min(self._size, self._bounds.longest_end(window, self._limits.most_rows))
        if size < window.end - window.start:
            start = max(start, ceil(window.end - size, self._grain))
        if self._doubt and self._doubt.window.start < window.end:
            start = max(start, self._doubt.window.start)
        return Window(start, window.end)

    def note_answer(self, part: Window, rows: int) -> None:
        """The part was answered, with so many rows."""
        self._bounds.note_answer(part, rows)
        self._size = self._longest
        self.skip(part, rows)

    def doubt(self, part: Window, rows: int) -> None:
        """The answer about the part may lack rows. Where its parts turn out to have as many, it did not."""
        self._doubt = self._doubt or _Doubt(part, rows)

    def take_rest(self) -> Window:
        """The rest, which is answered otherwise: nothing is left."""
        rest, self.rest = self.rest, Window(self.rest.start, self.rest.start)
        return rest

    def skip(self, part: Window, rows: int) -> None:
        """The part, which has so many rows, is not asked for again."""
        self.rest = Window(self.rest.start, part.start)
        if self._doubt:
            self._doubt.rows_of_parts += rows
            if part.start <= self._doubt.window.start:
                if self._doubt.rows_of_parts == self._doubt.rows:
                    self._limits.note_whole(self._doubt.rows)
                self._doubt = None

    def shorten(self, part: Window, *, is_truncated: bool, is_slow: bool) -> bool:
        """Makes the next part shorter than this one, which was not answered whole; returns whether that is possible."""
        if is_truncated and self._bounds.note_truncated(self.rest, part, self._limits.most_rows):
            return True
        self._size = half(part, self._grain) or self._size
        if is_slow or not self._bounds.by_start:
            # The hours before are as dense.
            self._longest = self._size
        return self._size < part.end - part.start

    def limit(self, size: timedelta) -> None:
        """No further part is longer."""
        self._longest = self._size = size
