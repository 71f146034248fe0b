"""The limits of the analytics endpoint as one client has learnt them, so that none is hit twice.

What belongs here: how long a window, how old an hour and how long a filter may be, learnt from answers and refusals.
What stays out: requests (`analytics.py`). No limit is documented, and a refusal does not say which it means (D44).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orcost_pipeline.windows import DAY, HOUR, Window, floor

# The API's own ceiling for one answer; the default of 1000 would truncate sooner.
ROW_LIMIT = 10_000


@dataclass
class GrainLimits:
    """The limits of windows of one grain (hour or day).

    answered: the longest window answered so far; oldest: the earliest start of one, None before the first answer.
    longest: the longest window to ask for; longer ones are refused.
    reported_from: anything older is refused, whatever the window.
    """

    grain: timedelta
    answered: timedelta = timedelta(0)
    oldest: datetime | None = None
    longest: timedelta | None = None
    reported_from: datetime | None = None

    def note_answer(self, window: Window) -> None:
        """Widens the limits by a window that was answered."""
        self.answered = max(self.answered, window.end - window.start)
        self.oldest = min(self.oldest or window.start, window.start)

    def is_within_answered(self, window: Window) -> bool:
        """Whether a window as long and as old was answered before, so that neither can be why this one is refused."""
        return self.oldest is not None and window.end - window.start <= self.answered and window.start >= self.oldest

    def size_after_refusal(self, window: Window) -> timedelta | None:
        """The length of the window to try next; None where a smaller one cannot help.

        A window longer than any answered one may be too long: it is halved, down to a day. A shorter one must be too
        old: halving then searches for the first hour (or day) that is reported.
        """
        length, size = window.end - window.start, half(window, self.grain)
        if self.is_within_answered(window) or (self.oldest is None and length <= DAY):
            return None
        return max(size, DAY) if size and length > max(self.answered, DAY) else size


@dataclass
class Limits:
    """Everything one client has learnt. most_keys: the longest filter to send; keys_answered: the longest answered;
    most_rows: the most rows of one answer; rows_seen: the most of any answer; rows_answered: the most of one that was
    whole."""

    most_keys: int | None = None
    keys_answered: int = 0
    most_rows: int = ROW_LIMIT
    rows_seen: int = 0
    rows_answered: int = 0
    grains: dict[timedelta, GrainLimits] = field(default_factory=lambda: {it: GrainLimits(it) for it in (HOUR, DAY)})

    def may_cut(self, rows: int) -> bool:
        """Whether an answer of so many rows may have been cut off there: never one with fewer than another has."""
        return rows > self.rows_answered and rows >= self.rows_seen

    def note_rows(self, rows: int) -> None:
        """Learns that an answer, whole or not, may have so many rows."""
        self.rows_seen = max(self.rows_seen, rows)

    def note_whole(self, rows: int) -> None:
        """Learns from an answer that was whole how many rows one may have."""
        self.rows_answered = max(self.rows_answered, rows)

    def note_truncated(self, rows: int) -> None:
        """Learns how many rows the server gives to one answer from one that lacks some."""
        self.most_rows = min(self.most_rows, rows or self.most_rows)


def half(window: Window, grain: timedelta) -> timedelta | None:
    """Half of a window, in whole hours (or days); None where it lies within one."""
    halves = window.halves(grain)
    return halves[0].end - floor(window.start, grain) if halves else None
