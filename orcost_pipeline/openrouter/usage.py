"""What to ask, so that every (hour, key, model) and every settled day is exact and a quiet account costs a handful of
requests: the account first, without keys; only what differs from what is stored is asked again, by key.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

from orcost_pipeline.errors import ForbiddenError
from orcost_pipeline.measures import Measures, differing
from orcost_pipeline.openrouter.client import NotFoundError, OpenRouter
from orcost_pipeline.openrouter.days import DaysReader
from orcost_pipeline.openrouter.hours import HoursReader
from orcost_pipeline.openrouter.reading import HourCell, Stored, UsageReading
from orcost_pipeline.openrouter.records import ActivityRow, ApiKey
from orcost_pipeline.windows import HOUR, Window, day_start, hours_window


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

    `is_full` asks every key for everything, `since` for everything from that day; the first reading is always full.
    Where analytics are not for this account (403, 404), its hours are left to its keys' counters, and days are read
    alone. Raises TransientError and ContractError as the client does.
    """
    reach = hours_window(as_of)
    first = stored.hours_from()
    window = Window(max(reach.start, day_start(since)), as_of) if since and first else reach
    is_full = is_full or since is not None or first is None
    listed = {key.hash: key for key in keys}
    reading = UsageReading(hours_from=min(first or reach.start, reach.start))

    hours_reader = HoursReader(client, stored, listed, reading, window)
    told, activity = await asyncio.gather(_account_hours(hours_reader, window), _activity(client))
    before = stored.account_hours(window)
    reading.has_analytics = told is not None
    days_reader = DaysReader(client, stored, listed, reading, as_of, activity) if activity is not None else None
    if told is not None:
        changed_days = days_reader.changed() if days_reader else set()
        hours = (
            set(window.hours()) if is_full else _hours_to_ask(told, before, stored.unexplained_hours(), changed_days)
        )
        await hours_reader.read({hour for hour in hours if hour in window}, is_full=is_full)
    if days_reader:
        after = {cell: m for cell, m in before.items() if not any(cell[0] in w for w in reading.windows)}
        await days_reader.read(before, after | reading.account_hours, is_full=is_full)
    return reading


async def _account_hours(hours_reader: HoursReader, window: Window) -> dict[HourCell, Measures] | None:
    """The account's hours, or None where analytics are not for this account."""
    try:
        return await hours_reader.account([window])
    except (ForbiddenError, NotFoundError):
        return None


async def _activity(client: OpenRouter) -> list[ActivityRow] | None:
    """The account's activity, or None where it is not for this account."""
    try:
        return await client.activity()
    except ForbiddenError:
        return None


def _hours_to_ask(
    told: Mapping[HourCell, Measures],
    stored: Mapping[HourCell, Measures],
    unexplained: Iterable[datetime],
    changed_days: Iterable[date],
) -> set[datetime]:
    """Hours that differ from what is stored, that lag left unexplained, or that belong to a day that changed."""
    hours = {hour for hour, _ in differing(told, stored)}
    return hours | set(unexplained) | {day_start(day) + i * HOUR for day in changed_days for i in range(24)}
