"""What analytics were seen to take of a client's questions, so that no limit is found out twice.

What belongs here: how long a window, how old an hour and how long a filter may be, learnt from answers and refusals.
What stays out: asking (`client.py`). No limit is documented, and a refusal does not say which one it means (D44).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orcost_pipeline.windows import DAY, HOUR, Window, floor


@dataclass
class GrainLimits:
    """The windows of one grain.

    answered: the longest window that was answered, oldest: the earliest start of one; None before the first.
    longest: the longest window to ask for, longer ones being refused.
    told_from: what is older is refused, whatever the window.
    """

    grain: timedelta
    answered: timedelta = timedelta(0)
    oldest: datetime | None = None
    longest: timedelta | None = None
    told_from: datetime | None = None

    def note_answer(self, window: Window) -> None:
        self.answered = max(self.answered, window.end - window.start)
        self.oldest = min(self.oldest or window.start, window.start)

    def is_within_answered(self, window: Window) -> bool:
        """Whether such a window was answered before: none of its limits can be why it is refused now."""
        return self.oldest is not None and window.end - window.start <= self.answered and window.start >= self.oldest

    def size_after_refusal(self, window: Window) -> timedelta | None:
        """How long a window to try next; None where a smaller one is no use.

        One longer than any that was answered may be too long: it is halved, down to a day. One that is not must be too
        old: the first hour (or day) that is told is searched for.
        """
        length, size = window.end - window.start, half(window, self.grain)
        if self.is_within_answered(window) or (self.oldest is None and length <= DAY):
            return None
        return max(size, DAY) if size and length > max(self.answered, DAY) else size


@dataclass
class Limits:
    """All that one client has learnt. most_keys: the longest filter to ask for; keys_answered: the longest answered."""

    most_keys: int | None = None
    keys_answered: int = 0
    grains: dict[timedelta, GrainLimits] = field(default_factory=lambda: {it: GrainLimits(it) for it in (HOUR, DAY)})


def half(window: Window, grain: timedelta) -> timedelta | None:
    """Half of a window, in whole hours (or days); None where it lies in one."""
    halves = window.halves(grain)
    return halves[0].end - floor(window.start, grain) if halves else None
