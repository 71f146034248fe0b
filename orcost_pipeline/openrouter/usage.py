"""What to ask, so that every (hour, key, model) and every settled day is exact and a quiet account costs a handful of
requests: the account first, without keys; only what differs from what is stored is asked again, by key.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

from orcost_pipeline.measures import NOTHING, Measures, differing, disagreeing, grouped
from orcost_pipeline.openrouter.analytics import AnalyticsReader, hours_of_newcomers
from orcost_pipeline.openrouter.client import OpenRouter, allowed
from orcost_pipeline.openrouter.days import DaysReader
from orcost_pipeline.openrouter.reading import Cell, Stored, UsageReading
from orcost_pipeline.openrouter.records import ActivityRow, ApiKey
from orcost_pipeline.windows import (
    DAY,
    HOUR,
    Window,
    day_start,
    first_activity_day,
    first_analytics_day,
    hour_floor,
    hours_window,
    utc_day,
)


async def read_usage(
    client: OpenRouter,
    stored: Stored,
    keys: Sequence[ApiKey],
    as_of: datetime,
    tolerance_usd: Decimal,
    *,
    counters_day: date | None = None,
    since: date | None = None,
    is_full: bool = False,
) -> UsageReading:
    """One account's usage as of one instant.

    `keys` are the living ones, `counters_day` the UTC day of their daily counters (None too near midnight to know). The
    first reading goes as far back as the API reports, by hour and by day; `since` shortens it, and what it left out
    stays unknown. Later, `since` asks again for everything from that day, and may reach further back. `is_full` asks
    every key for everything. Without analytics (403, 404), hours are left to the keys' counters, and days are read
    alone. `tolerance_usd` is by how much a day's witnesses may differ, besides rounding. Raises what the client does.
    """
    first = stored.hours_from()
    window = _hours_to_compare(stored, as_of, since)
    is_full = is_full or since is not None or first is None
    listed = {key.hash: key for key in keys}
    hours_reader = AnalyticsReader(client, listed, stored.known_keys(), stored.key_hours, window)
    told, activity = await asyncio.gather(allowed(hours_reader.account()), client.activity())
    before = stored.account_hours(window)
    if told is not None:
        hours_reader.shorten_by_days(told, _by_day(activity, before))
    reading = UsageReading(has_analytics=told is not None, hours=hours_reader.reading)
    hours_from = min(first or window.start, window.start)
    days_reader = None
    if activity is not None:
        reading.days_heard = Window(day_start(first_activity_day(as_of)), as_of)
        days_reader = DaysReader(
            client, stored, listed, reading, as_of, activity, hours_from, counters_day, tolerance_usd
        )
    if told is not None:
        changed_days = days_reader.changed() if days_reader else set()
        hours = (
            set(window.hours()) if is_full else _hours_to_ask(told, before, stored.unexplained_hours(), changed_days)
        )
        newcomers = hours_reader.newcomers() if first else []
        theirs = hours_of_newcomers(newcomers, stored.hours_without_key(window)) if newcomers else set()
        await hours_reader.read({hour for hour in hours if hour in window}, theirs, is_full=is_full)
        since_day = since or (None if stored.is_read() else date.min)
        await _read_past(client, stored, listed, reading, as_of, since_day, tolerance_usd)
    if days_reader:
        after = {cell: m for cell, m in before.items() if not any(cell[0] in w for w in reading.hours.windows)}
        await days_reader.read(before, after | reading.hours.account, is_full=is_full)
    return reading


def _hours_to_compare(stored: Stored, as_of: datetime, since: date | None) -> Window:
    """The hours in which the account's answer is compared with what is stored: within the API's reach, not before the
    history that was asked for at first, and, whatever is asked for again, everything since the last sync."""
    reach = hours_window(as_of)
    first, last = stored.hours_from(), stored.as_of()
    start = reach.start if first is None or stored.is_counted() else max(reach.start, first)
    if since is not None:
        start = max(reach.start, min(day_start(since), hour_floor(last or as_of)))
    return Window(start, as_of)


async def _read_past(
    client: OpenRouter,
    stored: Stored,
    listed: Mapping[str, ApiKey],
    reading: UsageReading,
    as_of: datetime,
    since: date | None,
    tolerance_usd: Decimal,
) -> None:
    """Days before those that activity tells: those that never settled, and, from `since` on, those that were never
    read or whose spend is not as stored. What is stored and agrees stays: it may know the providers."""
    end, reach = first_activity_day(as_of), first_analytics_day(as_of)
    first = max(since, reach) if since else None
    unsettled = {day for day in stored.unsettled_days(first, end) if day >= reach}
    first = min([*unsettled, first or end])
    if first >= end:
        return
    window = Window(day_start(first), day_start(end))
    reader = AnalyticsReader(client, listed, stored.known_keys(), stored.key_days, window, DAY)
    told = await allowed(reader.account())
    if told is None:
        return
    known = _spend(stored.account_days(window))
    differ = {utc_day(at) for at, _ in disagreeing(_spend(told), known, tolerance_usd)}
    reading.past = reader.reading
    told_days = unsettled | {day for day in differ if since and day >= since}
    reading.past_days = sorted(
        day for day in told_days if reading.past.covered and day_start(day) in reading.past.covered
    )
    await reader.read({day_start(day) for day in reading.past_days}, set(), is_full=True, account=told)


def _by_day(activity: list[ActivityRow] | None, hours: Mapping[Cell, Measures]) -> dict[date, Measures]:
    """What the account used by day, by its activity, or by its stored hours where that is not for it."""
    if activity is not None:
        return grouped((row.date, row.measures) for row in activity)
    return grouped((utc_day(at), measures) for (at, _), measures in hours.items())


def _spend(cells: Mapping[Cell, Measures]) -> dict[Cell, Measures]:
    """Money and requests alone: accounts differ in which kinds of tokens their analytics know."""
    return {
        cell: NOTHING._replace(requests=m.requests, credits_usd=m.credits_usd, byok_usd=m.byok_usd)
        for cell, m in cells.items()
    }


def _hours_to_ask(
    told: Mapping[Cell, Measures],
    stored: Mapping[Cell, Measures],
    unexplained: Iterable[datetime],
    changed_days: Iterable[date],
) -> set[datetime]:
    """Hours that differ from what is stored, that lag left unexplained, or that belong to a day that changed."""
    hours = {hour for hour, _ in differing(told, stored)}
    return hours | set(unexplained) | {day_start(day) + i * HOUR for day in changed_days for i in range(24)}
