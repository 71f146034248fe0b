"""Which requests to make so that every (hour, key, model) and every settled day is exact at little cost.

The account is read first, without keys; only what differs from the stored usage is read again by key, so that a quiet
account costs a handful of requests.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from orcost_pipeline.measures import NOTHING, Measures, differing, disagreeing, grouped
from orcost_pipeline.openrouter.account_keys import AccountKeys
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.failures import allowed
from orcost_pipeline.openrouter.api.records import ActivityRow
from orcost_pipeline.openrouter.days import FULL_READING_EVERY, ActivityDays, activity_days, read_days
from orcost_pipeline.openrouter.pacing import due
from orcost_pipeline.openrouter.reading import (
    AccountUsage,
    Cell,
    Kept,
    ListedKey,
    Stored,
    UsageReading,
    UsageSummary,
)
from orcost_pipeline.openrouter.row_estimate import division_bounds, rows_by_hour
from orcost_pipeline.openrouter.usage_by_key import account_usage, covered_window, read_hours, read_past_days
from orcost_pipeline.windows import (
    DAY,
    HOUR,
    Window,
    covering,
    day_start,
    first_activity_day,
    first_analytics_day,
    first_whole_day,
    hour_floor,
    hours_window,
    utc_day,
    without,
)


async def read_usage(
    client: OpenRouter,
    stored: Stored,
    kept: Kept,
    listed: Sequence[ListedKey],
    as_of: datetime,
    tolerance_usd: Decimal,
    *,
    counters_day: date | None = None,
    since: date | None = None,
    is_full: bool = False,
) -> UsageReading:
    """Reads one account's usage as of one instant: hours, days to settle, and older days.

    `listed` are the active keys, `counters_day` the UTC day of their daily counters (None if too near midnight).
    The first reading goes back as far as the API reports, by hour and by day; `since` shortens it, and earlier usage
    stays unknown. Later, `since` reads everything again from that day, which may be earlier than before. `is_full`
    reads every key in full. Without analytics (403, 404), hours are left to the keys' counters and only days are read.
    Otherwise a part of it is read in full: every day's hours, and every key's activity, once in `FULL_READING_EVERY`.
    `tolerance_usd` is how far two sources of a day may differ, besides rounding. Usage by hour, and that of days too
    old for activity, is kept as it comes.
    Raises TransientError and ContractError as the client does.
    """
    is_full = is_full or since is not None or stored.hours_from() is None
    keys = AccountKeys({key.key_hash: key for key in listed}, stored.known_keys())
    window = _hours_to_compare(stored, as_of, since)
    before = stored.account_hours(window)
    account, activity = await _read_account(client, window, before)
    days = None
    if activity is not None:
        first = min(stored.hours_from() or window.start, window.start)
        days = activity_days(activity, stored, as_of, first, counters_day, has_analytics=account is not None)
    reading = UsageReading(has_analytics=account is not None)
    if account is not None:
        account = replace(account, covered=covered_window(account, _by_day(activity, before)))
        hours = await _read_hours(client, keys, stored, kept, account, before, days, is_full=is_full)
        past, past_days = await _read_past(client, keys, stored, kept, as_of, since, tolerance_usd)
        reading = replace(reading, hours=hours, past=past, past_days=past_days)
    if days is not None:
        settled = await read_days(client, keys, stored, days, before, reading.hours, tolerance_usd, is_full=is_full)
        reading = replace(reading, activity=settled)
    return reading


async def _read_account(
    client: OpenRouter, window: Window, before: Mapping[Cell, Measures]
) -> tuple[AccountUsage | None, list[ActivityRow] | None]:
    """The account's usage by hour, and its activity; None where OpenRouter does not report it.

    What is stored (`before`), at first the activity, says how large the answer by hour is.
    """
    if before:
        asked = account_usage(client, window, most_rows=division_bounds(window, Counter(at for at, _ in before)))
        return await asyncio.gather(allowed(asked), client.activity())
    activity = await client.activity()
    expected = division_bounds(window, rows_by_hour(activity or ()))
    return await allowed(account_usage(client, window, most_rows=expected)), activity


def _hours_to_compare(stored: Stored, as_of: datetime, since: date | None) -> Window:
    """The hours in which the account's usage is compared with the stored usage: within the API's reach, not before the
    known history unless `since` is earlier, and always everything since the last sync."""
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
    kept: Kept,
    account: AccountUsage,
    before: Mapping[Cell, Measures],
    days: ActivityDays | None,
    *,
    is_full: bool,
) -> UsageSummary:
    """Reads by key the hours in which the account's usage differs from the stored (`before`), and in full those of days
    whose turn it is; all if `is_full`."""
    covered = account.covered
    if is_full:
        explained, also, full = set(covered.hours()), set[datetime](), covering(covered.hours(), covered.end)
    else:
        changed_days = days.changed() if days else set[date]()
        explained = _hours_to_ask(account.cells, before, stored.unexplained_hours(), changed_days)
        also = _hours_of_newcomers(keys.newcomers(), stored, account.requested)
        full = covering(_hours_due(stored, covered), covered.end)
        explained |= {hour for window in full for hour in window.hours()}
    moved = without(covering({at for at in explained | also if at in covered}, covered.end), full)
    summary = UsageSummary.of_account(account)
    for windows, is_every_key in ((moved, False), (full, True)):
        if windows:
            parts = read_hours(client, keys, stored, kept, account, windows, explained, is_full=is_every_key)
            async for part in parts:
                summary = summary.plus(part)
    return summary


def _hours_due(stored: Stored, covered: Window) -> list[datetime]:
    """The hours of finished days that are to be read in full, those whose turn is longest ago first."""
    read_at = stored.hours_read_at(first_whole_day(covered.start), utc_day(covered.end))
    days = due(read_at, covered.end, FULL_READING_EVERY)
    return [day_start(day) + i * HOUR for day in days for i in range(24)]


def _hours_to_ask(
    account: Mapping[Cell, Measures],
    stored: Mapping[Cell, Measures],
    unexplained: Iterable[datetime],
    changed_days: Iterable[date],
) -> set[datetime]:
    """Hours that differ from the stored ones, that were left unexplained by lag, or whose day changed."""
    hours = {hour for hour, _ in differing(account, stored)}
    return hours | set(unexplained) | {day_start(day) + i * HOUR for day in changed_days for i in range(24)}


def _hours_of_newcomers(newcomers: Sequence[ListedKey], stored: Stored, window: Window) -> set[datetime]:
    """Hours without a known key during the life of a newcomer: a key that is new or came back may explain them."""
    without_key = stored.hours_without_key(window) if newcomers else ()
    if not without_key:
        return set()
    first = min(hour_floor(key.created_at or without_key[0]) for key in newcomers)
    return {hour for hour in without_key if hour >= first}


async def _read_past(
    client: OpenRouter,
    keys: AccountKeys,
    stored: Stored,
    kept: Kept,
    as_of: datetime,
    since: date | None,
    tolerance_usd: Decimal,
) -> tuple[UsageSummary, list[date]]:
    """Reads by key the days too old for activity, and returns which were read: unsettled days, and from `since` on (at
    first: from the earliest day reported) those that were never read or whose spend differs from the stored.

    Stored days that agree stay as they are: they may have providers, which analytics lack.
    """
    end, reach = first_activity_day(as_of), first_analytics_day(as_of)
    since = since or (None if stored.is_read() else reach)
    first = max(since, reach) if since else None
    unsettled = {day for day in stored.unsettled_days(first, end) if day >= reach}
    first = min([*unsettled, first or end])
    if first >= end:
        return UsageSummary(), []
    window = Window(day_start(first), day_start(end))
    account = await allowed(account_usage(client, window, DAY))
    if account is None:
        return UsageSummary(), []
    known = stored.account_days(window)
    differ = {utc_day(at) for at, _ in disagreeing(_spend(account.cells), _spend(known), tolerance_usd)}
    wanted = unsettled | {day for day in differ if since and day >= since}
    days = sorted(day for day in wanted if day_start(day) in account.covered)
    # Before the first usage and after the last one, no key has any. Days without usage in between cost no question.
    used = {utc_day(at) for at, _ in account.cells.keys() | known.keys()}
    starts = {day_start(day) for day in days if used and min(used) <= day <= max(used)}
    summary = UsageSummary.of_account(account)
    async for part in read_past_days(client, keys, stored, kept, account, starts):
        summary = summary.plus(part)
    return summary, days


def _by_day(activity: Sequence[ActivityRow] | None, hours: Mapping[Cell, Measures]) -> dict[date, Measures]:
    """The account's usage by UTC day: by activity, or by its stored hours where it has no activity."""
    if activity is not None:
        return grouped((row.date, row.measures) for row in activity)
    return grouped((utc_day(at), measures) for (at, _), measures in hours.items())


def _spend(cells: Mapping[Cell, Measures]) -> dict[Cell, Measures]:
    """Only money and requests: which kinds of tokens analytics report differs between accounts."""
    return {
        cell: NOTHING._replace(requests=m.requests, credits_usd=m.credits_usd, byok_usd=m.byok_usd)
        for cell, m in cells.items()
    }
