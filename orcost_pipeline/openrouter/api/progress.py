"""Progress of a long reading, as text for a person who waits for it.

What belongs here: the answered part of the planned requests, and the time left at the same pace. What stays out: the
requests, and where the text is shown.
"""

import time
from collections.abc import Callable

from orcost_pipeline.openrouter.api.requests import ANALYTICS_PER_MINUTE

# Seconds: shorter readings show nothing, and more frequent lines would flicker.
SHOWN_AFTER = 3.0
SHOWN_EVERY = 2.0


class Progress:
    """One reading after another: `begin`, then `plan` and `done` in any common unit. `show` receives each line."""

    def __init__(
        self,
        show: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        shown_after: float = SHOWN_AFTER,
        shown_every: float = SHOWN_EVERY,
    ) -> None:
        self._show = show
        self._clock = clock
        self._shown_after, self._shown_every = shown_after, shown_every
        self._what = ""
        self._planned = self._done = 0.0
        self._began_at = self._shown_at = clock()

    def begin(self, what: str) -> None:
        """Starts a new reading with nothing planned yet; `what` names it in the lines shown."""
        self._what, self._planned, self._done = what, 0.0, 0.0
        self._began_at = self._shown_at = self._clock()

    def plan(self, amount: float) -> None:
        """Adds to the amount planned for this reading."""
        self._planned += amount

    def done(self, amount: float) -> None:
        """Adds to the amount answered; shows a line where the reading is long and the last line is old enough."""
        self._done += amount
        now = self._clock()
        is_soon = now - self._began_at < self._shown_after or now - self._shown_at < self._shown_every
        if is_soon or self._done >= self._planned:
            return
        self._shown_at = now
        part = self._done / self._planned
        left = _left((now - self._began_at) * (1 - part) / part)
        self._show(f"{self._what}: {100 * part:.0f} %{left}")


def _left(seconds: float) -> str:
    """The time left and the rate limit that causes it; blank below a minute."""
    if seconds < 45:
        return ""
    minutes = max(1, round(seconds / 60))
    allowed = f"{ANALYTICS_PER_MINUTE} questions a minute are allowed"
    return f", about {minutes} minute{'s' if minutes > 1 else ''} left ({allowed})"
