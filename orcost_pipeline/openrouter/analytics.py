"""Usage by key at the grain of an hour or a day, exact although analytics names keys and does not identify them.

A question by hash is asked of keys of which no two bear one name, so that each row's name tells its key; a row whose
name is none of theirs splits the question until one key is left. The keys that moved are asked first. Where they do not
explain the account, one question without a filter shows which names do, and the keys that bear those are asked.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from decimal import Decimal

from orcost_pipeline.measures import (
    NOTHING,
    SAME_USD,
    Measures,
    differing,
    disagreeing,
    grouped,
    tolerated_usd,
    total,
)
from orcost_pipeline.openrouter.client import OpenRouter, UsageAnswer
from orcost_pipeline.openrouter.reading import AnalyticsReading, Cell, KeyAnswer, KeyCell, KnownKey
from orcost_pipeline.openrouter.records import ApiKey, UsageCell
from orcost_pipeline.windows import CLOCK_WRONG, HOUR, Window, covering, day_end, day_start, hour_floor, utc_day

NameCell = tuple[datetime, str, str]  # hour or day, name of a key, model
KeyCells = Callable[[Sequence[Window]], Mapping[KeyCell, Measures]]


class AnalyticsReader:
    """Reads one account's usage, in cells of one grain, into a reading.

    listed: the account's living keys, by hash; known: all that were ever stored; key_cells: what is stored of them.
    window: what may be asked for, of whole grains from its start.
    """

    def __init__(
        self,
        client: OpenRouter,
        listed: Mapping[str, ApiKey],
        known: Mapping[str, KnownKey],
        key_cells: KeyCells,
        window: Window,
        grain: timedelta = HOUR,
    ) -> None:
        self.reading = AnalyticsReading()
        self._client = client
        self._listed = listed
        self._known = known
        self._key_cells = key_cells
        self._window = window
        self._grain = grain
        self._asked: set[str] = set()
        self._lagging: set[datetime] = set()

    async def account(self) -> dict[Cell, Measures]:
        """The account's usage in the window by model, over all keys and no key."""
        window = self._window
        answer = await self._client.usage(window, ["model"], grain=self._grain)
        self._cover_from(answer.told_from or window.start)
        is_old = answer.cached_at is not None and answer.cached_at < window.end - CLOCK_WRONG
        self.reading.cached_at = answer.cached_at if is_old else None
        self.reading.heard.append(window)
        return self._sums(answer.cells)

    def shorten_by_days(self, account: Mapping[Cell, Measures], days: Mapping[date, Measures]) -> None:
        """Hours before the first that analytics tell are not told where `days` tell of usage in them: analytics may
        reach back less than they are asked, and not say so."""
        first = min((at for at, _ in account), default=self._window.end)
        used = [day for day, measures in days.items() if any(measures) and day_start(day) >= self._window.start]
        before = [day_end(day) for day in used if day_end(day) <= first]
        if not before:
            return
        day = utc_day(first)
        of_day = total(measures for (at, _), measures in account.items() if utc_day(at) == day)
        told = days.get(day, NOTHING)
        is_cut = of_day.is_below(told, SAME_USD)
        self._cover_from(first if is_cut else max(before))

    def _cover_from(self, start: datetime) -> None:
        """What is told begins here: nothing before is asked for, nor taken for zero."""
        self._window = Window(max(start, self._window.start), self._window.end)
        self.reading.covered = self._window

    async def read(
        self,
        instants: set[datetime],
        newcomers_too: set[datetime],
        *,
        is_full: bool,
        account: Mapping[Cell, Measures] | None = None,
    ) -> None:
        """Reads the hours (or days) that begin at `instants` by key, then the account again, so that lag between the
        two shows as a positive residual; unless `account` is its answer, of days too old for any lag.

        `newcomers_too` are asked as well: a key that is new, or came back, may explain what had no key.
        """
        reading = self.reading
        instants, newcomers_too = ({at for at in part if at in self._window} for part in (instants, newcomers_too))
        wanted = instants | newcomers_too
        if not wanted:
            return
        reading.windows = self._covering(wanted)
        self._client.progress.begin(f"usage by {'hour' if self._grain == HOUR else 'day'}")
        stored = self._key_cells(reading.windows)
        await self._ask(self._all_keys() if is_full else self._keys_that_moved())
        if account is None:
            await self._read_account(stored)
        else:
            inside = {cell: m for cell, m in account.items() if any(cell[0] in window for window in reading.windows)}
            reading.account = inside
        if unexplained := {at for at, _ in self._residual(stored)} & instants:
            await self._explain(unexplained, stored)
        reading.unexplained = sorted({*reading.unexplained, *self._lagging})
        reading.changed = {at for at, _, _ in differing(reading.key_cells(stored), stored)}

    async def _read_account(self, stored: Mapping[KeyCell, Measures]) -> None:
        """The account's usage after that of its keys. An answer that the server had made before theirs is at least what
        they say now; those hours are to be asked again."""
        reading = self.reading
        answers = await self._answers(reading.windows, ["model"])
        reading.account = self._sums([cell for answer in answers for cell in answer.cells])
        self._lagging = set()
        if any(answer.cached_at for answer in answers):
            for cell, missing in self._residual(stored).items():
                if min(missing) < 0:
                    reading.account[cell] = reading.account.get(cell, NOTHING).minus(missing.at_most(NOTHING))
                    self._lagging.add(cell[0])

    def newcomers(self) -> list[ApiKey]:
        """Listed keys that were not known, or known as deleted."""
        living = {key for key, known in self._known.items() if known.deleted_at is None}
        return [told for key, told in self._listed.items() if key not in living]

    # ── whom to ask ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _all_keys(self) -> set[str]:
        """Every key that may have used something inside the windows: a key deleted before them did not."""
        start = min(window.start for window in self.reading.windows)
        gone = {key for key, known in self._known.items() if known.deleted_at is None or known.deleted_at >= start}
        return set(self._listed) | gone

    def _keys_that_moved(self) -> set[str]:
        """Newcomers, keys gone since the last sync, and those whose counters or last use are not as stored."""
        gone = {key for key, known in self._known.items() if known.deleted_at is None and key not in self._listed}
        moved = {key for key, told in self._listed.items() if _has_moved(told, self._known.get(key))}
        return gone | moved | {told.hash for told in self.newcomers()}

    async def _recheck_silent_keys(
        self, named: Mapping[NameCell, Measures], stored: Mapping[KeyCell, Measures]
    ) -> None:
        """Tells a hash that has nothing to say from one that answers nothing any more: where that matters, keys that
        are deleted and silent are asked over the whole reach. One that still answers there means its silence as zero.
        """
        below = {cell for cell, measures in self._residual(stored).items() if self._is_negative(cell, measures)}
        doubted = {key for at, key, model in stored if (at, model) in below}
        names = {name for _, name, _ in named}
        silent = {key for key in self._silent() if key in doubted or self._name(key) in names}
        answers = await asyncio.gather(*(self._ask_batch(batch, self._window) for batch in self._batches(silent)))
        heard = {whole.key_hash: whole.cells for batch in answers for whole in batch if not whole.is_silent}
        self.reading.keys = [
            _within(answer, heard[answer.key_hash]) if answer.is_silent and answer.key_hash in heard else answer
            for answer in self.reading.keys
        ]

    def _silent(self) -> set[str]:
        """Deleted keys that answered nothing."""
        return {answer.key_hash for answer in self.reading.keys if answer.is_silent} - self._listed.keys()

    async def _explain(self, instants: set[datetime], stored: Mapping[KeyCell, Measures]) -> None:
        """Asks the keys whose names account for what is left; notes what stays unexplained."""
        reading, windows = self.reading, self._covering(instants)
        told = await self._cells(windows, ["api_key_id", "model"])
        named = self._by_name(told)
        suspects = self._bearers({name for _, name, _ in differing(named, self._ours(windows, stored))}) - self._asked
        if suspects:
            await self._ask(suspects)
            await self._read_account(stored)
        await self._recheck_silent_keys(named, stored)
        self._take_names_of_silent_keys(named, windows, stored)
        residual = self._residual(stored)
        beyond = self._beyond(named, self._ours(windows, stored), residual)
        reading.named_windows = windows
        reading.unkeyed = grouped(
            [
                *(((at, ""), measures) for (at, _), measures in _without_key(told)),
                *(((at, name), measures) for (at, name, _), measures in beyond.items()),
            ]
        )
        explained = grouped([*_without_key(told), *self._of_deleted_keys(beyond)])
        left = {at for at, _ in disagreeing(residual, explained, SAME_USD, self._requests())}
        reading.unexplained = sorted(left & instants)

    def _explained(self, stored: Mapping[KeyCell, Measures]) -> dict[Cell, Measures]:
        """What the account's keys used, by cell."""
        cells = self.reading.key_cells(stored).items()
        return grouped(((at, model), measures) for (at, _, model), measures in cells)

    def _residual(self, stored: Mapping[KeyCell, Measures]) -> dict[Cell, Measures]:
        """Cells of the account that its keys do not explain, but for rounding: account minus keys."""
        return _left(self.reading.account, self._explained(stored))

    def _requests(self) -> dict[Cell, Decimal]:
        return {cell: measures.requests for cell, measures in self.reading.account.items()}

    def _is_negative(self, cell: Cell, left: Measures) -> bool:
        """Whether what is left of a cell of the account is less than nothing, by more than rounding makes of it."""
        tolerated = tolerated_usd(self.reading.account.get(cell, NOTHING).requests, SAME_USD)
        return min(left.credits_usd, left.byok_usd) < -tolerated or left.requests < 0

    def _ours(self, windows: Sequence[Window], stored: Mapping[KeyCell, Measures]) -> dict[NameCell, Measures]:
        """What the keys have, by their names."""
        return grouped(
            ((at, self._name(key), model), measures)
            for (at, key, model), measures in self.reading.key_cells(stored).items()
            if any(at in window for window in windows)
        )

    def _beyond(
        self, named: Mapping[NameCell, Measures], ours: Mapping[NameCell, Measures], residual: Iterable[Cell]
    ) -> dict[NameCell, Measures]:
        """What rows of a name have beyond its keys, where the keys do not explain the account: elsewhere a key is told
        under another name than we know it by."""
        cells = set(residual)
        return {
            (at, name, model): named[at, name, model].minus(ours.get((at, name, model), NOTHING))
            for at, name, model in disagreeing(named, ours, SAME_USD)
            if (at, model) in cells and (at, name, model) in named
        }

    def _of_deleted_keys(self, beyond: Mapping[NameCell, Measures]) -> list[tuple[Cell, Measures]]:
        """That part of it of which asking the living again can tell nothing more."""
        return [
            ((at, model), measures) for (at, name, model), measures in beyond.items() if not self._may_be_late(name, at)
        ]

    def _by_name(self, cells: Iterable[UsageCell]) -> dict[NameCell, Measures]:
        """Rows with a key, by name; a label that belongs to one key alone stands for that key's name."""
        names = _unique_labels(self._listed.values())
        names |= {key.name: key.name for key in self._listed.values()}
        return grouped(((c.at, names.get(c.key, c.key), c.model), c.measures) for c in cells if c.key is not None)

    def _bearers(self, names: set[str]) -> set[str]:
        """Keys that bear one of the names; all living ones where nobody bears it."""
        bearers: set[str] = set()
        for name in names:
            bearers |= self._ever_bore(name) or set(self._listed)
        return bearers

    def _ever_bore(self, name: str) -> set[str]:
        """Keys that are listed under the name, or were at some time."""
        listed = {key for key, told in self._listed.items() if told.name == name}
        return listed | {key for key, known in self._known.items() if name in known.names}

    def _may_be_late(self, name: str, at: datetime) -> bool:
        """Whether a row of the name may be of a key that lives: all that ever bore it do, and one did then."""
        bearers = self._ever_bore(name)
        born = [self._listed[key].created_at or at for key in bearers if key in self._listed]
        return len(born) == len(bearers) and any(created_at < at + self._grain for created_at in born)

    def _take_names_of_silent_keys(
        self, named: Mapping[NameCell, Measures], windows: Sequence[Window], stored: Mapping[KeyCell, Measures]
    ) -> None:
        """Rows of a name that one key alone ever bore are that key's, where its hash answers nothing any more and no
        other key explains them: one that we know under another name still may."""
        account, explained = self.reading.account, self._explained(stored)
        of_key: dict[str, list[tuple[datetime, str, Measures]]] = defaultdict(list)
        for (at, other, model), measures in stored.items():
            of_key[other].append((at, model, measures))
        of_name: dict[str, list[tuple[datetime, str, Measures]]] = defaultdict(list)
        for (at, bearer, model), measures in named.items():
            of_name[bearer].append((at, model, measures))
        for key in sorted(self._silent()):
            name = self._name(key)
            for window in windows if self._ever_bore(name) == {key} else ():
                told = {(at, model): m for at, model, m in of_name[name] if at in window}
                known = {(at, model): m for at, model, m in of_key[key] if at in window}
                more = {cell: measures.minus(known.get(cell, NOTHING)) for cell, measures in told.items()}
                left = _left(*({cell: side.get(cell, NOTHING) for cell in told} for side in (account, explained)))
                taken = {
                    cell: measures
                    for cell, measures in told.items()
                    if not self._is_negative(cell, left.get(cell, NOTHING).minus(more[cell]))
                }
                explained |= {cell: explained.get(cell, NOTHING).plus(more[cell]) for cell in taken}
                if taken:
                    self.reading.keys.append(KeyAnswer(key, window, False, known | taken))

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _covering(self, instants: Iterable[datetime]) -> list[Window]:
        return covering(instants, self._window.end, self._grain)

    async def _answers(self, windows: Iterable[Window], dimensions: Sequence[str]) -> list[UsageAnswer]:
        """What the whole account used, by window."""
        return await asyncio.gather(*(self._client.usage(it, dimensions, grain=self._grain) for it in windows))

    async def _cells(self, windows: Iterable[Window], dimensions: Sequence[str]) -> list[UsageCell]:
        """Rows of the whole account."""
        return [cell for answer in await self._answers(windows, dimensions) for cell in answer.cells]

    async def _ask(self, keys: set[str]) -> None:
        """Each key's usage in each window, as exact as if it had been asked alone."""
        self._asked |= keys
        questions = [(batch, window) for batch in self._batches(keys) for window in self.reading.windows]
        self._client.progress.plan(sum((window.end - window.start) / HOUR for _, window in questions))
        answers = await asyncio.gather(*(self._ask_batch(batch, window) for batch, window in questions))
        self.reading.keys += [answer for batch in answers for answer in batch]

    def _batches(self, keys: AbstractSet[str]) -> list[list[str]]:
        """Keys dealt out so that no name occurs twice in a batch: as many batches as keys share the commonest name.

        Keys that are gone stand apart.
        """
        living = self._listed.keys() & keys
        return [*self._dealt(living), *self._dealt(set(keys) - living)]

    def _dealt(self, keys: Iterable[str]) -> list[list[str]]:
        batches: list[list[str]] = []
        dealt: dict[str, int] = defaultdict(int)
        for key in sorted(keys):
            number = dealt[self._name(key)]
            dealt[self._name(key)] += 1
            if number == len(batches):
                batches.append([])
            batches[number].append(key)
        return batches

    async def _ask_batch(self, keys: list[str], window: Window) -> list[KeyAnswer]:
        answer = await self._client.usage(window, ["api_key_id", "model"], keys, grain=self._grain)
        owners = self._owners(keys)
        # A key that is gone may have been renamed after the last sync that saw it, to another's name.
        knows_names = all(key in self._listed for key in keys)
        if len(keys) > 1 and any(not knows_names or cell.key not in owners for cell in answer.cells):
            middle = len(keys) // 2
            halves = await asyncio.gather(*(self._ask_batch(part, window) for part in (keys[:middle], keys[middle:])))
            return halves[0] + halves[1]
        rows: dict[str, list[UsageCell]] = {key: [] for key in keys}
        for cell in answer.cells:
            rows[keys[0] if len(keys) == 1 else owners[cell.key]].append(cell)
        return [self._answer(key, window, key in answer.unresolved, rows[key]) for key in keys]

    def _owners(self, keys: Sequence[str]) -> dict[str | None, str]:
        """Whose a row of a batch is, by its key's name, or by a label that no other key of the batch has."""
        owners: dict[str | None, str] = {self._name(key): key for key in keys}
        labels = _unique_labels(self._listed[key] for key in keys if key in self._listed)
        return {label: owners[name] for label, name in labels.items()} | owners

    def _answer(self, key: str, window: Window, is_unresolved: bool, cells: list[UsageCell]) -> KeyAnswer:
        is_silent = is_unresolved or (not cells and key not in self._listed)
        return KeyAnswer(key, window, is_silent, self._sums(cells, key))

    def _name(self, key: str) -> str:
        return self._listed[key].name if key in self._listed else self._known[key].name

    def _sums(self, cells: list[UsageCell], key: str | None = None) -> dict[Cell, Measures]:
        self._client.note_cells(cells, key, self._grain)
        self.reading.doubtful_totals += sum(1 for cell in cells if _is_doubtful(cell))
        return grouped(((cell.at, cell.model), cell.measures) for cell in cells if any(cell.measures))


def _left(account: Mapping[Cell, Measures], keys: Mapping[Cell, Measures]) -> dict[Cell, Measures]:
    """Cells that differ by more than rounding: account minus keys."""
    return {c: account.get(c, NOTHING).minus(keys.get(c, NOTHING)) for c in disagreeing(account, keys, SAME_USD)}


def hours_of_newcomers(newcomers: Sequence[ApiKey], without_key: Sequence[datetime]) -> set[datetime]:
    """Hours with usage that no key is known for, in the life of a newcomer."""
    if not newcomers or not without_key:
        return set()
    first = min(hour_floor(told.created_at or without_key[0]) for told in newcomers)
    return {hour for hour in without_key if hour >= first}


def _within(answer: KeyAnswer, cells: Mapping[Cell, Measures]) -> KeyAnswer:
    """What a key that is not silent after all says of the window."""
    told = {cell: measures for cell, measures in cells.items() if cell[0] in answer.window}
    return KeyAnswer(answer.key_hash, answer.window, False, told)


def _has_moved(told: ApiKey, known: KnownKey | None) -> bool:
    return known is None or (told.usage, told.byok_usage, told.last_used_at) != (
        known.usage_usd,
        known.byok_usage_usd,
        known.last_used_at,
    )


def _without_key(cells: Iterable[UsageCell]) -> list[tuple[Cell, Measures]]:
    return [((cell.at, cell.model), cell.measures) for cell in cells if cell.key is None]


def _unique_labels(keys: Iterable[ApiKey]) -> dict[str, str]:
    """Label → name, of labels that one key alone has."""
    seen: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        seen[key.label].append(key.name)
    return {label: names[0] for label, names in seen.items() if label and len(names) == 1}


def _is_doubtful(cell: UsageCell) -> bool:
    """Whether a total is not credits plus BYOK, by more than cutting each of the three for itself makes of it."""
    if cell.total_usd is None or cell.lacks_figures:
        return False
    apart = abs(cell.total_usd - cell.measures.credits_usd - cell.measures.byok_usd)
    return apart > tolerated_usd(cell.measures.requests, SAME_USD)
