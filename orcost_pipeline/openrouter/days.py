"""Days settled from activity, which alone knows providers and is the account's own account of a closed day.

One question without a key tells all 30 days and shows which changed; keys are asked, all 30 days a request, only where
a day is to be settled: of a new day those that used something on it, of a changed one those whose hours moved; then,
where they do not explain it, all that used something, and at last all that may have.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal

from orcost_pipeline.measures import NOTHING, SAME_USD, Measures, differing, disagreeing, grouped, total
from orcost_pipeline.openrouter.client import OpenRouter
from orcost_pipeline.openrouter.reading import Cell, KeyCell, KeyDays, Stored, UsageReading
from orcost_pipeline.openrouter.records import ActivityRow, ApiKey
from orcost_pipeline.windows import (
    DAY,
    SETTLED_AFTER,
    Window,
    ceil,
    day_end,
    day_start,
    days_between,
    first_activity_day,
    first_whole_day,
    floor,
    joined,
    utc_day,
)

# A day is settled once it ended this long ago and activity is not below the hours, or `SETTLED_AFTER`.
SETTLE_AFTER = timedelta(hours=2)

DayCell = tuple[date, str]  # day, model


class DaysReader:
    """Reads days of one account into a `UsageReading`. `told` is its activity over all keys."""

    def __init__(
        self,
        client: OpenRouter,
        stored: Stored,
        listed: Mapping[str, ApiKey],
        reading: UsageReading,
        as_of: datetime,
        told: list[ActivityRow],
        hours_from: datetime,
        counters_day: date | None,
        tolerance_usd: Decimal,
    ) -> None:
        self._client = client
        self._stored = stored
        self._listed = listed
        self._reading = reading
        self._as_of = as_of
        self._told = told
        self._tolerance_usd = tolerance_usd
        self._days = days_between(max(first_activity_day(as_of), first_whole_day(hours_from)), utc_day(as_of))
        self._settled = stored.settled_days(self._days[0]) if self._days else {}
        self._untold = [days for days in self._summed(counters_day) if not self._are_told(days)]

    def changed(self) -> set[date]:
        """Settled days whose activity is not as stored."""
        told = _by_day(self._told)
        return {d for d in self._days if d in self._settled and differing(told.get(d, {}), self._settled[d])}

    async def read(self, before: Mapping[Cell, Measures], after: Mapping[Cell, Measures], *, is_full: bool) -> None:
        """Reads the days to settle, given the account's hours as they were stored and as they are now told."""
        hours = {hour for hour, _ in differing(after, before)} | self._reading.hours.changed
        touched = {utc_day(hour) for hour in hours} | self.changed()
        days = [
            day
            for day in self._days
            if (is_full or day not in self._settled or day in touched) and self._can_settle(day, after)
        ]
        if not days:
            return
        self._reading.days = days
        self._reading.account_days = [row for row in self._told if row.date in set(days)]
        cells, moved = self._key_hours(days)
        fresh = {day for day in days if day not in self._settled}
        await self._ask({key for hour, key, _ in cells if utc_day(hour) in fresh} | moved)
        users = {key for _, key, _ in cells} | self._stored.settled_keys(days)
        if is_full or self._is_unexplained(cells, after):
            await self._ask(users)
        if is_full or self._is_unexplained(cells, after):
            await self._ask(self._others())

    def _summed(self, counters_day: date | None) -> list[Window]:
        """Runs of UTC days of which the keys' counters know the sum but not each, up to this sync. Daily counters cut
        them where their day begins, if midnight is not too near to know it.
        """
        spans = list(self._stored.counted_spans())
        last = self._stored.as_of()
        if last is not None and not self._reading.has_analytics:
            spans.append(Window(last, self._as_of))
        cut = day_start(counters_day) if counters_day else None
        parts = [part for span in spans for part in (span.cut(cut) if cut else [span])]
        return joined([Window(floor(part.start, DAY), ceil(part.end, DAY)) for part in parts])

    def _are_told(self, days: Window) -> bool:
        """Whether activity tells each of the days, all of them finished."""
        return not self._days or (utc_day(days.start) >= self._days[0] and days.end <= day_start(utc_day(self._as_of)))

    def _can_settle(self, day: date, hours: Mapping[Cell, Measures]) -> bool:
        if day not in self._settled and any(day_start(day) in days for days in self._untold):
            # Counters booked the sum on one day. Activity may not replace that day where it does not tell the others.
            return False
        if not self._reading.has_analytics:
            # After an outage counters know the sum of some days, not each: these settle together, or none does.
            return self._as_of - day_start(utc_day(self._as_of)) >= SETTLE_AFTER
        age = self._as_of - day_end(day)
        if age >= SETTLED_AFTER:
            return True
        told = total(row.measures for row in self._told if row.date == day)
        known = total(measures for (hour, _), measures in hours.items() if utc_day(hour) == day)
        return age >= SETTLE_AFTER and not told.is_below(known, self._tolerance_usd)

    def _key_hours(self, days: list[date]) -> tuple[dict[KeyCell, Measures], set[str]]:
        """The keys' hours on `days`, as they will be, and the keys whose hours are not as stored."""
        wanted = set(days)
        stored = self._stored.key_hours([Window(day_start(day), day_end(day)) for day in days])
        told = self._reading.hours.key_cells(stored)
        cells = {cell: measures for cell, measures in told.items() if utc_day(cell[0]) in wanted}
        return cells, {key for _, key, _ in differing(cells, stored)}

    def _others(self) -> set[str]:
        """Keys that may have used something on the days although nothing shows it."""
        first, last = day_start(self._reading.days[0]), day_end(self._reading.days[-1])
        # Where the API tells the last use of any key, a key that has none was never used.
        unknown = None if any(key.last_used_at for key in self._listed.values()) else first
        listed = {
            key.hash
            for key in self._listed.values()
            if (key.created_at or first) < last and (used := key.last_used_at or unknown) and used >= first
        }
        known = self._stored.known_keys().items()
        gone = {key for key, k in known if key not in self._listed and (k.deleted_at is None or k.deleted_at >= first)}
        return listed | gone

    async def _ask(self, keys: set[str]) -> None:
        """The activity of those keys that were not asked yet."""
        ordered = sorted(keys - {answer.key_hash for answer in self._reading.key_days})
        self._client.progress.begin("activity of each key")
        self._client.progress.plan(len(ordered))
        answers = await asyncio.gather(*(self._activity(key) for key in ordered))
        wanted = set(self._reading.days)
        for key, rows in zip(ordered, answers, strict=True):
            is_silent = rows is None or (not rows and key not in self._listed)
            kept = [row for row in rows or () if row.date in wanted]
            self._reading.key_days.append(KeyDays(key, is_silent, kept))

    async def _activity(self, key: str) -> list[ActivityRow] | None:
        rows = await self._client.activity(key)
        self._client.progress.done(1)
        return rows

    def _is_unexplained(self, hours: Mapping[KeyCell, Measures], account: Mapping[Cell, Measures]) -> bool:
        """Whether the account's activity exceeds its keys' by anything else than its hours do, or rounding."""
        wanted = set(self._reading.days)
        told = grouped(((row.date, row.model_permaslug), row.measures) for row in self._reading.account_days)
        known = grouped(((utc_day(h), model), m) for (h, model), m in account.items() if utc_day(h) in wanted)
        by_hours = grouped(((utc_day(h), model), m) for (h, _, model), m in hours.items())
        requests = {cell: measures.requests for cell, measures in told.items()}
        left, left_by_hours = _minus(told, self._keys_told(hours)), _minus(known, by_hours)
        return bool(disagreeing(left, left_by_hours, SAME_USD, requests))

    def _keys_told(self, hours: Mapping[KeyCell, Measures]) -> dict[DayCell, Measures]:
        """What the keys say of the days: their activity, or their hours where activity is silent."""
        rows = [(answer.key_hash, row) for answer in self._reading.key_days for row in answer.rows]
        told = {(key, row.date) for key, row in rows}
        cells = [((row.date, row.model_permaslug), row.measures) for _, row in rows]
        cells += [
            ((utc_day(hour), model), measures)
            for (hour, key, model), measures in hours.items()
            if (key, utc_day(hour)) not in told
        ]
        return grouped(cells)


def _by_day(rows: Iterable[ActivityRow]) -> dict[date, dict[str, Measures]]:
    days: dict[date, list[ActivityRow]] = defaultdict(list)
    for row in rows:
        days[row.date].append(row)
    return {day: grouped((row.model_permaslug, row.measures) for row in cells) for day, cells in days.items()}


def _minus(all_cells: Mapping[DayCell, Measures], part: Mapping[DayCell, Measures]) -> dict[DayCell, Measures]:
    return {c: all_cells.get(c, NOTHING).minus(part.get(c, NOTHING)) for c in all_cells.keys() | part.keys()}
