"""Settles days from activity, which alone reports providers and is OpenRouter's own account of a finished day.

One request without a key returns all 30 days and shows which changed. Keys are read, 30 days per request, only where a
day is to be settled: for a new day those with usage on it, for a changed one those whose hours moved. Where they do not
explain the day, all keys with usage follow, then all that may have any.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal

from orcost_pipeline.measures import NOTHING, SAME_USD, Measures, differing, disagreeing, grouped, total
from orcost_pipeline.openrouter.account_keys import AccountKeys
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.records import ActivityRow
from orcost_pipeline.openrouter.pacing import due
from orcost_pipeline.openrouter.reading import (
    ActivityReading,
    Cell,
    KeyDay,
    KeyDays,
    Stored,
    UsageSummary,
)
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

# A day settles this long after its end if activity is not below the hours, otherwise after `SETTLED_AFTER`.
SETTLE_AFTER = timedelta(hours=2)
# Within this time, every stored day's hours and every key's activity are read in full once more.
FULL_READING_EVERY = timedelta(days=7)

DayCell = tuple[date, str]  # day, model


@dataclass(frozen=True)
class ActivityDays:
    """The finished UTC days that activity reports, before any of them is settled.

    `settled` are those settled by earlier syncs, by model. Days in `unsplit` cannot be settled yet: counters booked the
    sum of several days on one of them, and activity must not replace that day while it lacks the others.
    """

    as_of: datetime
    days: Sequence[date]
    settled: Mapping[date, Mapping[str, Measures]]
    unsplit: Sequence[Window]
    rows: Sequence[ActivityRow]
    has_analytics: bool

    def changed(self) -> set[date]:
        """Settled days whose activity differs from what is stored."""
        reported = _by_day(self.rows)
        return {d for d in self.days if d in self.settled and differing(reported.get(d, {}), self.settled[d])}

    def can_settle(self, day: date, hours: Mapping[Cell, Measures], tolerance_usd: Decimal) -> bool:
        """Whether a day may be settled, given the account's hours as they will be stored; tolerance per day in USD."""
        if day not in self.settled and any(day_start(day) in days for days in self.unsplit):
            return False
        if not self.has_analytics:
            # After an outage counters know only the sum of several days: these settle together or not at all.
            return self.as_of - day_start(utc_day(self.as_of)) >= SETTLE_AFTER
        age = self.as_of - day_end(day)
        if age >= SETTLED_AFTER:
            return True
        reported = total(row.measures for row in self.rows if row.date == day)
        known = total(measures for (hour, _), measures in hours.items() if utc_day(hour) == day)
        return age >= SETTLE_AFTER and not reported.is_below(known, tolerance_usd)


def activity_days(
    rows: Sequence[ActivityRow],
    stored: Stored,
    as_of: datetime,
    hours_from: datetime,
    counters_day: date | None,
    *,
    has_analytics: bool,
) -> ActivityDays:
    """The days of an account's activity, with the stored ones. `hours_from` is the first known hour, `counters_day` the
    UTC day of the keys' daily counters (None if it was too near midnight to know)."""
    days = days_between(max(first_activity_day(as_of), first_whole_day(hours_from)), utc_day(as_of))
    settled = stored.settled_days(days[0]) if days else {}
    last = stored.as_of()
    counted = [] if has_analytics or last is None else [Window(last, as_of)]
    spans = _spans_of_days([*stored.counted_spans(), *counted], counters_day)
    unsplit = [span for span in spans if days and not _is_reported(span, days[0], as_of)]
    return ActivityDays(as_of, days, settled, unsplit, rows, has_analytics)


def _spans_of_days(spans: Sequence[Window], counters_day: date | None) -> list[Window]:
    """Runs of UTC days of which the counters know the sum but not each day; daily counters split them where their day
    begins."""
    cut = day_start(counters_day) if counters_day else None
    parts = [part for span in spans for part in (span.cut(cut) if cut else [span])]
    return joined([Window(floor(part.start, DAY), ceil(part.end, DAY)) for part in parts])


def _is_reported(span: Window, first_day: date, as_of: datetime) -> bool:
    """Whether all days of the span are finished and reported by activity."""
    return utc_day(span.start) >= first_day and span.end <= day_start(utc_day(as_of))


async def read_days(
    client: OpenRouter,
    keys: AccountKeys,
    stored: Stored,
    activity: ActivityDays,
    hours_before: Mapping[Cell, Measures],
    hours: UsageSummary,
    tolerance_usd: Decimal,
    *,
    is_full: bool,
) -> ActivityReading:
    """Reads the days to settle by key.

    `hours_before` are the account's stored hours, `hours` those read now. `is_full` settles every day that can be
    settled and reads every key; otherwise keys whose turn it is are compared with their settled days. Returns no days
    where none is to settle. Raises as OpenRouter.activity does.
    """
    requested = Window(day_start(first_activity_day(activity.as_of)), activity.as_of)
    of_keys = _ActivityOfKeys(client, keys)
    compared, restated = ([], set[date]()) if is_full else await _compare(of_keys, keys, stored, activity)
    after = {cell: m for cell, m in hours_before.items() if not any(cell[0] in window for window in hours.windows)}
    after |= hours.account
    moved_hours = {hour for hour, _ in differing(after, hours_before)} | hours.changed
    touched = {utc_day(hour) for hour in moved_hours} | activity.changed() | restated
    days = [
        day
        for day in activity.days
        if (is_full or day not in activity.settled or day in touched) and activity.can_settle(day, after, tolerance_usd)
    ]
    if not days:
        return ActivityReading(requested, compared=compared)
    reader = _DaysReader(of_keys, keys, activity, days, after)
    before = stored.hours_by_key_day([Window(day_start(day), day_end(day)) for day in days])
    changes = {cell: measures for cell, measures in hours.key_days.items() if cell[0] in set(days)}
    await reader.read(before, changes, stored.settled_keys(days), is_full=is_full)
    if is_full:
        compared = sorted(of_keys.answers)
    return ActivityReading(requested, days, reader.account, reader.key_days(), compared)


class _ActivityOfKeys:
    """Reads the activity of keys, each of them once; `answers` are by key hash."""

    def __init__(self, client: OpenRouter, keys: AccountKeys) -> None:
        self.answers: dict[str, KeyDays] = {}
        self._client = client
        self._keys = keys

    async def ask(self, key_hashes: Iterable[str]) -> None:
        """Reads those keys that were not read yet."""
        ordered = sorted(set(key_hashes) - self.answers.keys())
        self._client.progress.begin("activity of each key")
        self._client.progress.plan(len(ordered))
        answers = await asyncio.gather(*(self._activity(key_hash) for key_hash in ordered))
        for key_hash, rows in zip(ordered, answers, strict=True):
            is_silent = rows is None or (not rows and key_hash not in self._keys.listed)
            self.answers[key_hash] = KeyDays(key_hash, is_silent, rows or ())

    async def _activity(self, key_hash: str) -> list[ActivityRow] | None:
        rows = await self._client.activity(key_hash)
        self._client.progress.done(1)
        return rows


async def _compare(
    of_keys: _ActivityOfKeys, keys: AccountKeys, stored: Stored, activity: ActivityDays
) -> tuple[list[str], set[date]]:
    """Reads the keys whose turn it is; returns them, and the settled days on which they are not as stored."""
    settled = [day for day in activity.days if day in activity.settled]
    if not settled:
        return [], set()
    read_at = stored.activity_read_at()
    used = stored.settled_keys(settled) | _possibly_used(keys, settled)
    compared = due({it: read_at.get(it) for it in used}, activity.as_of, FULL_READING_EVERY)
    await of_keys.ask(compared)
    answers = [answer for it in compared if not (answer := of_keys.answers[it]).is_silent]
    known = stored.days_of_keys([answer.key_hash for answer in answers], settled)
    rows = [(answer.key_hash, row) for answer in answers for row in answer.rows if row.date in activity.settled]
    reported = grouped(((row.date, key_hash, row.model_permaslug), row.measures) for key_hash, row in rows)
    return compared, {day for day, _, _ in differing(reported, known)}


def _possibly_used(keys: AccountKeys, days: Sequence[date]) -> set[str]:
    """Keys that may have usage on the days although no hour or stored day shows any."""
    first, last = day_start(days[0]), day_end(days[-1])
    listed = keys.listed.values()
    # Where the API reports the last use of any key, a key without one was never used.
    unknown = None if any(key.last_used_at for key in listed) else first
    used = {
        key.key_hash
        for key in listed
        if (key.created_at or first) < last and (at := key.last_used_at or unknown) and at >= first
    }
    return used | (keys.alive_since(first) - keys.listed.keys())


class _DaysReader:
    """Reads some days by key. `hours` are the account's hours as they will be stored, `account` its activity."""

    def __init__(
        self,
        of_keys: _ActivityOfKeys,
        keys: AccountKeys,
        activity: ActivityDays,
        days: Sequence[date],
        hours: Mapping[Cell, Measures],
    ) -> None:
        self._of_keys = of_keys
        self._keys = keys
        self._activity = activity
        self._days = days
        self._hours = hours
        self.account = [row for row in activity.rows if row.date in set(days)]

    async def read(
        self,
        stored_hours: Mapping[KeyDay, Measures],
        changes: Mapping[KeyDay, Measures],
        settled_keys: frozenset[str],
        *,
        is_full: bool,
    ) -> None:
        """Reads the keys that the days need. `stored_hours` are the keys' hours as stored, summed by day, `changes` how
        far those read now differ, `settled_keys` the keys with usage stored on the days."""
        key_hours = grouped([*stored_hours.items(), *changes.items()])
        moved = {key_hash for _, key_hash, _ in changes}
        fresh = {day for day in self._days if day not in self._activity.settled}
        await self._of_keys.ask({key_hash for day, key_hash, _ in key_hours if day in fresh} | moved)
        if is_full or self._is_unexplained(key_hours):
            await self._of_keys.ask({key_hash for _, key_hash, _ in key_hours} | settled_keys)
        if is_full or self._is_unexplained(key_hours):
            await self._of_keys.ask(_possibly_used(self._keys, self._days))

    def key_days(self) -> list[KeyDays]:
        """The days of the keys that were read."""
        wanted = set(self._days)
        answers = self._of_keys.answers.values()
        return [replace(answer, rows=[row for row in answer.rows if row.date in wanted]) for answer in answers]

    def _is_unexplained(self, key_hours: Mapping[KeyDay, Measures]) -> bool:
        """Whether account minus keys differs between activity and hours by more than rounding."""
        wanted = set(self._days)
        account = grouped(((row.date, row.model_permaslug), row.measures) for row in self.account)
        by_hours = grouped(((utc_day(h), model), m) for (h, model), m in self._hours.items() if utc_day(h) in wanted)
        keys_by_hours = grouped(((day, model), m) for (day, _, model), m in key_hours.items())
        requests = {cell: measures.requests for cell, measures in account.items()}
        left, left_by_hours = _minus(account, self._usage_of_keys(key_hours)), _minus(by_hours, keys_by_hours)
        return bool(disagreeing(left, left_by_hours, SAME_USD, requests))

    def _usage_of_keys(self, key_hours: Mapping[KeyDay, Measures]) -> dict[DayCell, Measures]:
        """The keys' usage on the days: by activity, or by hours where activity reports nothing."""
        rows = [(answer.key_hash, row) for answer in self.key_days() for row in answer.rows]
        reported = {(key_hash, row.date) for key_hash, row in rows}
        cells = [((row.date, row.model_permaslug), row.measures) for _, row in rows]
        cells += [
            ((day, model), measures)
            for (day, key_hash, model), measures in key_hours.items()
            if (key_hash, day) not in reported
        ]
        return grouped(cells)


def _by_day(activity: Iterable[ActivityRow]) -> dict[date, dict[str, Measures]]:
    days: dict[date, list[ActivityRow]] = defaultdict(list)
    for row in activity:
        days[row.date].append(row)
    return {day: grouped((row.model_permaslug, row.measures) for row in rows) for day, rows in days.items()}


def _minus(all_cells: Mapping[DayCell, Measures], part: Mapping[DayCell, Measures]) -> dict[DayCell, Measures]:
    return {c: all_cells.get(c, NOTHING).minus(part.get(c, NOTHING)) for c in all_cells.keys() | part.keys()}
