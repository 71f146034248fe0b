"""Usage from analytics by hour or by day: first the account's, then that of the keys that explain it.

`account_usage` reads the account alone; `read_hours` then reads the wanted hours by key, `read_past_days` days that are
too old for activity. Keys whose counters moved come first. Where they do not sum to the account, one question without a
filter shows which names do, and the keys of those names are read too.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import NamedTuple

from orcost_pipeline.measures import NOTHING, SAME_USD, Measures, differing, disagreeing, grouped, tolerated_usd, total
from orcost_pipeline.openrouter.account_keys import AccountKeys
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.records import UsageCell
from orcost_pipeline.openrouter.api.usage_answer import UsageAnswer
from orcost_pipeline.openrouter.key_questions import KeyQuestions, by_model, doubtful_totals, rows_by_key
from orcost_pipeline.openrouter.reading import (
    AccountUsage,
    AnalyticsReading,
    Cell,
    Kept,
    KeyCell,
    KeyUsage,
    NamedCell,
    Stored,
    merged,
)
from orcost_pipeline.openrouter.row_estimate import RowEstimate
from orcost_pipeline.windows import (
    CLOCK_WRONG,
    DAY,
    HOUR,
    SETTLED_AFTER,
    Window,
    covering,
    day_end,
    day_start,
    utc_day,
    without,
)

# Rows by key that are held at a time: about 200 MB.
MOST_ROWS = 100_000

NameCell = tuple[datetime, str, str]  # start of an hour or a day, name of a key, model


async def account_usage(
    client: OpenRouter, window: Window, grain: timedelta = HOUR, *, most_rows: Mapping[datetime, int] | None = None
) -> AccountUsage:
    """The account's usage per model and hour (or day) in a window of whole grains.

    `most_rows` and what is raised: as for OpenRouter.usage.
    """
    response = await client.usage(window, ["model"], grain=grain, most_rows=most_rows)
    client.note_cells(response.cells, None, grain)
    is_old = response.cached_at is not None and response.cached_at < window.end - CLOCK_WRONG
    return AccountUsage(
        requested=window,
        covered=Window(max(response.reported_from or window.start, window.start), window.end),
        cells=by_model(response.cells),
        cached_at=response.cached_at if is_old else None,
        doubtful_totals=doubtful_totals(response.cells),
    )


def covered_window(usage: AccountUsage, days: Mapping[date, Measures]) -> Window:
    """The part of the window that hourly analytics cover, given the account's usage by UTC day.

    Analytics may reach back less far than requested without saying so: hours before the first one are unknown where
    `days` show usage.
    """
    first = min((at for at, _ in usage.cells), default=usage.covered.end)
    used = [day for day, measures in days.items() if any(measures) and day_start(day) >= usage.covered.start]
    before = [day_end(day) for day in used if day_end(day) <= first]
    if not before:
        return usage.covered
    day = utc_day(first)
    by_hours = total(measures for (at, _), measures in usage.cells.items() if utc_day(at) == day)
    is_cut = by_hours.is_below(days.get(day, NOTHING), SAME_USD)
    start = first if is_cut else max(before)
    return Window(max(start, usage.covered.start), usage.covered.end)


async def read_hours(
    client: OpenRouter,
    keys: AccountKeys,
    stored: Stored,
    kept: Kept,
    account: AccountUsage,
    windows: Sequence[Window],
    explained: Collection[datetime],
    *,
    is_full: bool,
) -> AsyncIterator[AnalyticsReading]:
    """Reads hours by key, in windows that `account` covers; those that begin at `explained` are explained.

    Where there may be many rows, they are read and kept in parts, the oldest first, so that no more than about
    `MOST_ROWS` are held at a time. `is_full` reads every key instead of those that moved, but for what an interrupted
    sync has read. The account is read again after its keys, so that lag between the two shows as a positive residual,
    in parts that are not too old for it. Raises as OpenRouter.usage does.
    """
    asked = keys.alive_since(windows[0].start) if is_full else keys.moved()
    client.progress.begin("usage by hour")
    rest = list(windows)
    for window in (it for it in kept.left_windows() if is_full and not without([it], windows)):
        reading = _left_over(kept, window, account, stored)
        if reading is not None:
            rest = without(rest, [window])
            kept.keep_hours(reading)
            yield reading
    estimate = RowEstimate(rows_by_key(account.cells, len(asked)))
    while rest:
        part, rest = estimate.next_part(rest, MOST_ROWS)
        is_recent = any(window.end > account.covered.end - SETTLED_AFTER for window in part)
        reader = _KeysReader(client, keys, HOUR, account, part, stored.key_hours(part), estimate)
        reading = await reader.read(explained, is_full=is_full, ask_account_again=is_recent)
        estimate.note_rows(part, reading)
        kept.keep_hours(reading)
        yield reading


def _left_over(kept: Kept, window: Window, account: AccountUsage, stored: Stored) -> AnalyticsReading | None:
    """What an interrupted sync has read in the window, None where the account's usage is another one by now."""
    reading = kept.left_hours(window)
    reported = {cell: measures for cell, measures in account.cells.items() if cell[0] in window}
    if differing(reported, reading.account):
        return None
    before = stored.key_hours([window])
    return replace(reading, changed=_changed(merged(before, reading.keys), before))


async def read_past_days(
    client: OpenRouter,
    keys: AccountKeys,
    stored: Stored,
    kept: Kept,
    account: AccountUsage,
    starts: Collection[datetime],
) -> AsyncIterator[AnalyticsReading]:
    """Reads by key the UTC days that begin at `starts`, every key, in parts as `read_hours` does. They are too old for
    any lag between the account and its keys."""
    windows = covering(starts, account.covered.end, DAY)
    asked = keys.alive_since(windows[0].start) if windows else ()
    client.progress.begin("usage by day")
    estimate, rest = RowEstimate(rows_by_key(account.cells, len(asked))), list(windows)
    while rest:
        part, rest = estimate.next_part(rest, MOST_ROWS)
        reader = _KeysReader(client, keys, DAY, account, part, stored.key_days(part), estimate)
        reading = await reader.read(starts, is_full=True, ask_account_again=False)
        estimate.note_rows(part, reading)
        kept.keep_days(reading.only(starts))
        yield reading


class Explanation(NamedTuple):
    """Usage by key name, for what no key explains: the `windows` read by name, usage there beyond the keys, and the
    starts of cells that stay unexplained."""

    windows: Sequence[Window]
    unkeyed: Mapping[NamedCell, Measures]
    unexplained: set[datetime]


class _KeysReader:
    """Reads the keys' usage in some windows. `account` is the account's usage reported before the keys', `stored` the
    keys' stored usage in the windows."""

    def __init__(
        self,
        client: OpenRouter,
        keys: AccountKeys,
        grain: timedelta,
        account: AccountUsage,
        windows: Sequence[Window],
        stored: Mapping[KeyCell, Measures],
        estimate: RowEstimate,
    ) -> None:
        self._client = client
        self._keys = keys
        self._grain = grain
        self._before = account
        self._windows = windows
        self._stored = stored
        self._questions = KeyQuestions(client, keys, grain, account.cells, estimate.share)
        self._doubtful_totals = 0
        self._account: dict[Cell, Measures] = {}
        self._usage: list[KeyUsage] = []
        self._requested_keys: set[str] = set()
        self._lagging: set[datetime] = set()

    async def read(self, wanted: Collection[datetime], *, is_full: bool, ask_account_again: bool) -> AnalyticsReading:
        """All usage in the windows; that of the `wanted` starts is explained by keys or names where possible."""
        start = min(window.start for window in self._windows)
        await self._ask(self._keys.alive_since(start) if is_full else self._keys.moved())
        if ask_account_again:
            await self._read_account()
        else:
            cells = self._before.cells.items()
            self._account = {cell: m for cell, m in cells if any(cell[0] in window for window in self._windows)}
        left = {at for at, _ in self._residual() if at in wanted}
        explanation = await self._explain(left) if left else Explanation((), {}, set())
        return AnalyticsReading(
            windows=self._windows,
            account=self._account,
            keys=self._usage,
            unexplained=sorted(explanation.unexplained | self._lagging),
            named_windows=explanation.windows,
            unkeyed=explanation.unkeyed,
            changed=_changed(self._key_cells(), self._stored),
            doubtful_totals=self._doubtful_totals + self._questions.doubtful_totals,
            is_full=is_full,
        )

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, key_hashes: set[str]) -> None:
        self._requested_keys |= key_hashes
        self._usage += await self._questions.ask(key_hashes, self._windows)

    async def _read_account(self) -> None:
        """Reads the account's usage after that of its keys.

        Where the response was cached, cells below the sum of the keys are raised to it, and the next sync reads those
        hours again.
        """
        responses = await self._responses(self._windows, ["model"], Counter(at for at, _ in self._before.cells))
        rows = [row for response in responses for row in response.cells]
        self._client.note_cells(rows, None, self._grain)
        self._doubtful_totals += doubtful_totals(rows)
        self._account = by_model(rows)
        self._lagging = set()
        if any(response.cached_at for response in responses):
            for cell, missing in self._residual().items():
                if min(missing) < 0:
                    self._account[cell] = self._account.get(cell, NOTHING).minus(missing.at_most(NOTHING))
                    self._lagging.add(cell[0])

    async def _responses(
        self, windows: Iterable[Window], dimensions: Sequence[str], most_rows: Mapping[datetime, int] | None = None
    ) -> list[UsageAnswer]:
        """The whole account's usage, by window."""
        questions = (self._client.usage(it, dimensions, grain=self._grain, most_rows=most_rows) for it in windows)
        return await asyncio.gather(*questions)

    # ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _key_cells(self) -> dict[KeyCell, Measures]:
        """The keys' usage as it will be stored, by start, key and model."""
        return merged(self._stored, self._usage)

    def _by_keys(self) -> dict[Cell, Measures]:
        return grouped(((at, model), measures) for (at, _, model), measures in self._key_cells().items())

    def _residual(self) -> dict[Cell, Measures]:
        """Account minus keys, for cells in which they differ by more than rounding."""
        return _left(self._account, self._by_keys())

    def _is_negative(self, cell: Cell, left: Measures) -> bool:
        """Whether the residual of a cell is negative by more than rounding."""
        tolerated = tolerated_usd(self._account.get(cell, NOTHING).requests, SAME_USD)
        return min(left.credits_usd, left.byok_usd) < -tolerated or left.requests < 0

    # ── explaining by name ───────────────────────────────────────────────────────────────────────────────────────────

    async def _explain(self, starts: set[datetime]) -> Explanation:
        """Reads the keys whose names account for the residual of these hours (or days), and names the rest."""
        asked = covering(starts, self._before.covered.end, self._grain)
        # Hours between them that are not of this part are of another, which explains them.
        windows = without(asked, without(asked, self._windows))
        responses = await self._responses(
            asked,
            ["api_key_id", "model"],
            rows_by_key(self._before.cells, len(self._keys.listed.keys() | self._keys.known.keys()) + 1),
        )
        cells = [row for response in responses for row in response.cells]
        rows = [row for row in cells if any(row.at in window for window in windows)]
        named = self._by_name(rows)
        suspects = self._keys.with_names({name for _, name, _ in differing(named, self._keys_by_name(windows))})
        if suspects - self._requested_keys:
            await self._ask(suspects - self._requested_keys)
            await self._read_account()
        await self._ask_silent_keys_again(named)
        self._attribute_names_of_silent_keys(named, windows)
        residual = self._residual()
        beyond = self._beyond_keys(named, windows, residual)
        without_key = [((row.at, row.model), row.measures) for row in rows if row.key is None]
        unkeyed = grouped(
            [
                *(((at, ""), measures) for (at, _), measures in without_key),
                *(((at, name), measures) for (at, name, _), measures in beyond.items()),
            ]
        )
        # Leftover usage that re-querying active keys cannot explain.
        final = [
            ((at, model), measures)
            for (at, name, model), measures in beyond.items()
            if not self._keys.may_report_late(name, at, self._grain)
        ]
        requests = {cell: measures.requests for cell, measures in self._account.items()}
        left = disagreeing(residual, grouped([*without_key, *final]), SAME_USD, requests)
        return Explanation(windows, unkeyed, {at for at, _ in left} & starts)

    def _by_name(self, rows: Iterable[UsageCell]) -> dict[NameCell, Measures]:
        """Usage by key name; a label that only one listed key has counts as that key's name."""
        names = self._keys.name_by_label(self._keys.listed)
        names |= {key.name: key.name for key in self._keys.listed.values()}
        with_key = ((row, row.key) for row in rows if row.key is not None)
        return grouped(((row.at, names.get(key, key), row.model), row.measures) for row, key in with_key)

    def _keys_by_name(self, windows: Sequence[Window]) -> dict[NameCell, Measures]:
        """The keys' usage in the windows, by their names."""
        return grouped(
            ((at, self._keys.name(key_hash), model), measures)
            for (at, key_hash, model), measures in self._key_cells().items()
            if any(at in window for window in windows)
        )

    def _beyond_keys(
        self, named: Mapping[NameCell, Measures], windows: Sequence[Window], residual: Collection[Cell]
    ) -> dict[NameCell, Measures]:
        """Usage of a name beyond that of its keys, in cells with a residual. Without one, a key merely shows under
        another name than the stored one."""
        by_keys = self._keys_by_name(windows)
        return {
            (at, name, model): named[at, name, model].minus(by_keys.get((at, name, model), NOTHING))
            for at, name, model in disagreeing(named, by_keys, SAME_USD)
            if (at, model) in residual and (at, name, model) in named
        }

    def _silent(self) -> set[str]:
        """Deleted keys that reported nothing."""
        return {usage.key_hash for usage in self._usage if usage.is_silent} - self._keys.listed.keys()

    async def _ask_silent_keys_again(self, named: Mapping[NameCell, Measures]) -> None:
        """Distinguishes deleted keys with zero usage from keys that the API no longer reports.

        Where it matters, silent deleted keys are read over the whole covered window. If a key has usage there, its
        silence in the narrower windows means zero.
        """
        below = {cell for cell, measures in self._residual().items() if self._is_negative(cell, measures)}
        doubted = {key_hash for at, key_hash, model in self._stored if (at, model) in below}
        names = {name for _, name, _ in named}
        silent = {it for it in self._silent() if it in doubted or self._keys.name(it) in names}
        found = await self._questions.ask_again(silent, self._before.covered)
        self._usage = [
            _within(usage.window, found[usage.key_hash]) if usage.is_silent and usage.key_hash in found else usage
            for usage in self._usage
        ]

    def _attribute_names_of_silent_keys(self, named: Mapping[NameCell, Measures], windows: Sequence[Window]) -> None:
        """Attributes usage by name to the only key that ever had the name, where the API no longer reports that key by
        hash and no key stored under another name explains the usage."""
        by_keys = self._by_keys()
        of_key: dict[str, list[tuple[datetime, str, Measures]]] = defaultdict(list)
        for (at, key_hash, model), measures in self._stored.items():
            of_key[key_hash].append((at, model, measures))
        of_name: dict[str, list[tuple[datetime, str, Measures]]] = defaultdict(list)
        for (at, name, model), measures in named.items():
            of_name[name].append((at, model, measures))
        for key_hash in sorted(self._silent()):
            name = self._keys.name(key_hash)
            for window in windows if self._keys.ever_named(name) == {key_hash} else ():
                reported = {(at, model): m for at, model, m in of_name[name] if at in window}
                known = {(at, model): m for at, model, m in of_key[key_hash] if at in window}
                more = {cell: measures.minus(known.get(cell, NOTHING)) for cell, measures in reported.items()}
                left = _left(*({it: side.get(it, NOTHING) for it in reported} for side in (self._account, by_keys)))
                taken = {
                    cell: measures
                    for cell, measures in reported.items()
                    if not self._is_negative(cell, left.get(cell, NOTHING).minus(more[cell]))
                }
                by_keys |= {cell: by_keys.get(cell, NOTHING).plus(more[cell]) for cell in taken}
                if taken:
                    self._usage.append(KeyUsage(key_hash, window, False, known | taken))


def _changed(after: Mapping[KeyCell, Measures], before: Mapping[KeyCell, Measures]) -> dict[KeyCell, Measures]:
    """Cells that differ from the stored ones, each with the difference."""
    return {
        it: after.get(it, NOTHING).minus(before[it]) if it in before else after[it] for it in differing(after, before)
    }


def _left(account: Mapping[Cell, Measures], keys: Mapping[Cell, Measures]) -> dict[Cell, Measures]:
    """Account minus keys, for cells that differ by more than rounding."""
    return {c: account.get(c, NOTHING).minus(keys.get(c, NOTHING)) for c in disagreeing(account, keys, SAME_USD)}


def _within(window: Window, usage: KeyUsage) -> KeyUsage:
    """A key's usage in a part of the window that was read."""
    cells = {cell: measures for cell, measures in usage.cells.items() if cell[0] in window}
    return KeyUsage(usage.key_hash, window, False, cells)
