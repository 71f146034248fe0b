"""What to ask, so that every (hour, key, model) and every settled day is exact and a quiet account costs a handful of
requests: the account first, without keys; only what differs from what is stored is asked again, by key.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

from orcost_pipeline.errors import ForbiddenError
from orcost_pipeline.measures import NOTHING, Measures, differing
from orcost_pipeline.openrouter.analytics import AnalyticsReader, hours_of_newcomers
from orcost_pipeline.openrouter.client import NotFoundError, OpenRouter
from orcost_pipeline.openrouter.days import DaysReader, first_told_day
from orcost_pipeline.openrouter.reading import Cell, Stored, UsageReading
from orcost_pipeline.openrouter.records import ActivityRow, ApiKey
from orcost_pipeline.windows import DAY, DAYS_REACH, HOUR, Window, day_start, hours_window, utc_day


async def read_usage(
    client: OpenRouter,
    stored: Stored,
    keys: Sequence[ApiKey],
    as_of: datetime,
    *,
    since: date | None = None,
    is_full: bool = False,
) -> UsageReading:
    """One account's usage as of one instant, given its living keys.

    `is_full` asks every key for everything, `since` for everything from that day, as far back as the API answers; the
    first reading is always full. Where analytics are not for this account (403, 404), its hours are left to its keys'
    counters, and days are read alone. Raises TransientError and ContractError as the client does.
    """
    reach = hours_window(as_of)
    first = stored.hours_from()
    window = Window(max(reach.start, day_start(since)), as_of) if since and first else reach
    is_full = is_full or since is not None or first is None
    listed = {key.hash: key for key in keys}
    hours_reader = AnalyticsReader(client, listed, stored.known_keys(), stored.key_hours, window)
    told, activity = await asyncio.gather(_account_usage(hours_reader, window), _activity(client))
    before = stored.account_hours(window)
    reading = UsageReading(has_analytics=told is not None, hours=hours_reader.reading)
    hours_from = min(first or reach.start, reach.start)
    days_reader = None
    if activity is not None:
        reading.days_heard = Window(day_start(first_told_day(as_of)), as_of)
        days_reader = DaysReader(client, stored, listed, reading, as_of, activity, hours_from)
    if told is not None:
        changed_days = days_reader.changed() if days_reader else set()
        hours = (
            set(window.hours()) if is_full else _hours_to_ask(told, before, stored.unexplained_hours(), changed_days)
        )
        newcomers = hours_reader.newcomers() if first else []
        theirs = hours_of_newcomers(newcomers, stored.hours_without_key(window)) if newcomers else set()
        await hours_reader.read({hour for hour in hours if hour in window}, theirs, is_full=is_full)
        await _read_past(client, stored, listed, reading, since, first_told_day(as_of))
    if days_reader:
        after = {cell: m for cell, m in before.items() if not any(cell[0] in w for w in reading.hours.windows)}
        await days_reader.read(before, after | reading.hours.account, is_full=is_full)
    return reading


async def _account_usage(reader: AnalyticsReader, window: Window) -> dict[Cell, Measures] | None:
    """The account's usage, or None where analytics are not for this account."""
    try:
        return await reader.account([window])
    except (ForbiddenError, NotFoundError):
        return None


async def _read_past(
    client: OpenRouter,
    stored: Stored,
    listed: Mapping[str, ApiKey],
    reading: UsageReading,
    since: date | None,
    end: date,
) -> None:
    """Days before `end`, which activity does not tell: those that never settled, and those since a day, if asked for,
    whose spend is not as stored. What is stored and agrees stays: it may know the providers."""
    reach = end - DAYS_REACH
    unsettled = {day for day in stored.unsettled_days(end) if day >= reach}
    first = min([*unsettled, max(since, reach) if since else end])
    if first >= end:
        return
    window = Window(day_start(first), day_start(end))
    reader = AnalyticsReader(client, listed, stored.known_keys(), stored.key_days, window, DAY)
    told = await _account_usage(reader, window)
    if told is None:
        return
    differ = {utc_day(at) for at, _ in differing(_spend(told), _spend(stored.account_days(window)))}
    reading.past = reader.reading
    reading.past_days = sorted(unsettled | {day for day in differ if since and day >= since})
    await reader.read({day_start(day) for day in reading.past_days}, set(), is_full=True)


def _spend(cells: Mapping[Cell, Measures]) -> dict[Cell, Measures]:
    """Money and requests alone: accounts differ in which kinds of tokens their analytics know."""
    return {
        cell: NOTHING._replace(requests=m.requests, credits_usd=m.credits_usd, byok_usd=m.byok_usd)
        for cell, m in cells.items()
    }


async def _activity(client: OpenRouter) -> list[ActivityRow] | None:
    """The account's activity, or None where it is not for this account."""
    try:
        return await client.activity()
    except ForbiddenError:
        return None


def _hours_to_ask(
    told: Mapping[Cell, Measures],
    stored: Mapping[Cell, Measures],
    unexplained: Iterable[datetime],
    changed_days: Iterable[date],
) -> set[datetime]:
    """Hours that differ from what is stored, that lag left unexplained, or that belong to a day that changed."""
    hours = {hour for hour, _ in differing(told, stored)}
    return hours | set(unexplained) | {day_start(day) + i * HOUR for day in changed_days for i in range(24)}
