"""How far a long reading is, in words for a person who waits for it.

What belongs here: which part of the planned questions is answered, and how long the rest will take at the same pace.
What stays out: asking them, and where the words are shown.
"""

import time
from collections.abc import Callable

from orcost_pipeline.openrouter.requests import ANALYTICS_PER_MINUTE

# Seconds: what is over sooner needs no words, and more often they would only flicker.
WORTH_TELLING = 3.0
TOLD_EVERY = 2.0


class Progress:
    """One reading after the other: `begin`, then `plan` and `done` in any common unit."""

    def __init__(
        self,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        worth_telling: float = WORTH_TELLING,
        told_every: float = TOLD_EVERY,
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._worth_telling, self._told_every = worth_telling, told_every
        self._what = ""
        self._planned = self._done = 0.0
        self._began_at = self._told_at = clock()

    def begin(self, what: str) -> None:
        """A new reading, of which nothing is planned yet."""
        self._what, self._planned, self._done = what, 0.0, 0.0
        self._began_at = self._told_at = self._clock()

    def plan(self, amount: float) -> None:
        self._planned += amount

    def done(self, amount: float) -> None:
        """So much of what was planned is answered; told where somebody may be waiting."""
        self._done += amount
        now = self._clock()
        is_soon = now - self._began_at < self._worth_telling or now - self._told_at < self._told_every
        if is_soon or self._done >= self._planned:
            return
        self._told_at = now
        part = self._done / self._planned
        left = _left((now - self._began_at) * (1 - part) / part)
        self._tell(f"{self._what}: {100 * part:.0f} %{left}")


def _left(seconds: float) -> str:
    """The time that is left, and what it is that one waits for, where that takes minutes."""
    if seconds < 45:
        return ""
    minutes = max(1, round(seconds / 60))
    allowed = f"{ANALYTICS_PER_MINUTE} questions a minute are allowed"
    return f", about {minutes} minute{'s' if minutes > 1 else ''} left ({allowed})"
