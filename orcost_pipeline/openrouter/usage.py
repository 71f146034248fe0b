"""What to ask so that every (hour, key, model) and every settled day is exact, and a quiet account costs a handful of
requests: the account first, without keys; only what differs from what is stored is asked again, by key.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from orcost_pipeline.measures import NOTHING, Measures, differing, disagreeing, grouped
from orcost_pipeline.openrouter.account_keys import AccountKeys
from orcost_pipeline.openrouter.analytics import account_usage, covered_window, read_keys
from orcost_pipeline.openrouter.client import OpenRouter, allowed
from orcost_pipeline.openrouter.days import ActivityDays, activity_days, read_days
from orcost_pipeline.openrouter.reading import (
    AccountUsage,
    AnalyticsReading,
    Cell,
    ListedKey,
    Stored,
    UsageReading,
)
from orcost_pipeline.openrouter.records import ActivityRow
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
    listed: Sequence[ListedKey],
    as_of: datetime,
    tolerance_usd: Decimal,
    *,
    counters_day: date | None = None,
    since: date | None = None,
    is_full: bool = False,
) -> UsageReading:
    """One account's usage as of one instant.

    `listed` are the active keys, `counters_day` the UTC day of their daily counters (None too near midnight to know).
    The first reading goes as far back as the API reports, by hour and by day; `since` shortens it, and what it left out
    stays unknown. Later, `since` asks again for everything from that day, and may reach further back. `is_full` asks
    every key for everything. Without analytics (403, 404), hours are left to the keys' counters, and days are read
    alone. `tolerance_usd` is by how much a day's witnesses may differ, besides rounding.
    Raises TransientError and ContractError as the client does.
    """
    is_full = is_full or since is not None or stored.hours_from() is None
    keys = AccountKeys({key.key_hash: key for key in listed}, stored.known_keys())
    window = _hours_to_compare(stored, as_of, since)
    account, activity = await asyncio.gather(allowed(account_usage(client, window)), client.activity())
    before = stored.account_hours(window)
    days = None
    if activity is not None:
        first = min(stored.hours_from() or window.start, window.start)
        days = activity_days(activity, stored, as_of, first, counters_day, has_analytics=account is not None)
    reading = UsageReading(has_analytics=account is not None)
    if account is not None:
        account = replace(account, covered=covered_window(account, _by_day(activity, before)))
        hours = await _read_hours(client, keys, stored, account, before, days, is_full=is_full)
        past, past_days = await _read_past(client, keys, stored, as_of, since, tolerance_usd)
        reading = replace(reading, hours=hours, past=past, past_days=past_days)
    if days is not None:
        settled = await read_days(client, keys, stored, days, before, reading.hours, tolerance_usd, is_full=is_full)
        reading = replace(reading, activity=settled)
    return reading


def _hours_to_compare(stored: Stored, as_of: datetime, since: date | None) -> Window:
    """The hours in which the account's usage is compared with what is stored: within the API's reach, not before the
    history that was asked for at first, and, whatever is asked for again, everything since the last sync."""
    reach = hours_window(as_of)
    first, last = stored.hours_from(), stored.as_of()
    start = reach.start if first is None or stored.is_counted() else max(reach.start, first)
    if since is not None:
        start = max(reach.start, min(day_start(since), hour_floor(last or as_of)))
    return Window(start, as_of)


async def _read_hours(
    client: OpenRouter,
    keys: AccountKeys,
    stored: Stored,
    account: AccountUsage,
    before: Mapping[Cell, Measures],
    days: ActivityDays | None,
    *,
    is_full: bool,
) -> AnalyticsReading:
    """By key, the hours in which the account's usage is not as stored (`before`); all of them if `is_full`."""
    changed_days = days.changed() if days else set[date]()
    wanted = (
        set(account.asked.hours())
        if is_full
        else _hours_to_ask(account.cells, before, stored.unexplained_hours(), changed_days)
    )
    theirs = set[datetime]()
    if stored.hours_from() is not None and (newcomers := keys.newcomers()):
        theirs = _hours_of_newcomers(newcomers, stored.hours_without_key(account.asked))
    return await read_keys(client, keys, stored.key_hours, account, wanted, theirs, is_full=is_full)


def _hours_to_ask(
    account: Mapping[Cell, Measures],
    stored: Mapping[Cell, Measures],
    unexplained: Iterable[datetime],
    changed_days: Iterable[date],
) -> set[datetime]:
    """Hours that differ from what is stored, that lag left unexplained, or that belong to a day that changed."""
    hours = {hour for hour, _ in differing(account, stored)}
    return hours | set(unexplained) | {day_start(day) + i * HOUR for day in changed_days for i in range(24)}


def _hours_of_newcomers(newcomers: Sequence[ListedKey], without_key: Sequence[datetime]) -> set[datetime]:
    """Hours with usage that no key is known for, in the life of a newcomer: a key that is new, or came back, may
    explain them."""
    if not without_key:
        return set()
    first = min(hour_floor(key.created_at or without_key[0]) for key in newcomers)
    return {hour for hour in without_key if hour >= first}


async def _read_past(
    client: OpenRouter,
    keys: AccountKeys,
    stored: Stored,
    as_of: datetime,
    since: date | None,
    tolerance_usd: Decimal,
) -> tuple[AnalyticsReading, list[date]]:
    """Days before those that activity reports, by key, and which of them were read: those that never settled, and, from
    `since` on (the first time, from the beginning), those that were never read or whose spend is not as stored.

    What is stored and agrees stays: it may know the providers.
    """
    end, reach = first_activity_day(as_of), first_analytics_day(as_of)
    since = since or (None if stored.is_read() else reach)
    first = max(since, reach) if since else None
    unsettled = {day for day in stored.unsettled_days(first, end) if day >= reach}
    first = min([*unsettled, first or end])
    if first >= end:
        return AnalyticsReading(), []
    window = Window(day_start(first), day_start(end))
    account = await allowed(account_usage(client, window, DAY))
    if account is None:
        return AnalyticsReading(), []
    known = _spend(stored.account_days(window))
    differ = {utc_day(at) for at, _ in disagreeing(_spend(account.cells), known, tolerance_usd)}
    wanted = unsettled | {day for day in differ if since and day >= since}
    days = sorted(day for day in wanted if day_start(day) in account.covered)
    starts = {day_start(day) for day in days}
    reading = await read_keys(
        client, keys, stored.key_days, account, starts, grain=DAY, is_full=True, ask_account_again=False
    )
    return reading, days


def _by_day(activity: Sequence[ActivityRow] | None, hours: Mapping[Cell, Measures]) -> dict[date, Measures]:
    """The account's usage by day, by its activity, or by its stored hours where activity is not reported to it."""
    if activity is not None:
        return grouped((row.date, row.measures) for row in activity)
    return grouped((utc_day(at), measures) for (at, _), measures in hours.items())


def _spend(cells: Mapping[Cell, Measures]) -> dict[Cell, Measures]:
    """Money and requests alone: accounts differ in which kinds of tokens their analytics report."""
    return {
        cell: NOTHING._replace(requests=m.requests, credits_usd=m.credits_usd, byok_usd=m.byok_usd)
        for cell, m in cells.items()
    }
