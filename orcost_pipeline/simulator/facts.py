"""What was used, when and when it shows: the sums behind every answer, fast enough for a thousand keys.

Belongs here: measures, facts and their sums by hour, day and key. Stays out: names, workspaces, HTTP.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import accumulate
from typing import NamedTuple

HOUR = timedelta(hours=1)
NOTHING = Decimal(0)
MILLIONTH = Decimal(1).scaleb(-6)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Usage:
    """Measures of some requests: counts, tokens and USD. Adds up; `ZERO` is its nothing.

    uncut_usd: by how much the total exceeds credits plus BYOK, where each of the three was cut for itself.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    credits_usd: Decimal = NOTHING
    byok_usd: Decimal = NOTHING
    byok_requests: int = field(default=0, compare=False)
    uncut_usd: Decimal = field(default=NOTHING, compare=False)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cached_tokens + other.cached_tokens,
            self.credits_usd + other.credits_usd,
            self.byok_usd + other.byok_usd,
            self.byok_requests + other.byok_requests,
            self.uncut_usd + other.uncut_usd,
        )

    def scaled(self, factor: Decimal) -> Usage:
        """Every measure times `factor`; counts are cut to whole numbers, money is exact."""
        return Usage(
            int(self.requests * factor),
            int(self.prompt_tokens * factor),
            int(self.completion_tokens * factor),
            int(self.reasoning_tokens * factor),
            int(self.cached_tokens * factor),
            self.credits_usd * factor,
            self.byok_usd * factor,
            int(self.byok_requests * factor),
        )

    @property
    def total_usd(self) -> Decimal:
        return self.credits_usd + self.byok_usd + self.uncut_usd

    def cut(self, requests: int, *, half_up: bool = False) -> Usage:
        """With its amounts shared out over so many requests, each share cut to a millionth of a dollar.

        half_up: each amount as a whole is rounded half up instead.
        """
        credits_usd, byok_usd, total_usd = (
            _cut(usd, requests, half_up) for usd in (self.credits_usd, self.byok_usd, self.total_usd)
        )
        uncut_usd = total_usd - credits_usd - byok_usd
        return replace(self, credits_usd=credits_usd, byok_usd=byok_usd, uncut_usd=uncut_usd)


def _cut(usd: Decimal, requests: int, half_up: bool) -> Decimal:
    if half_up:
        return usd.quantize(MILLIONTH, ROUND_HALF_UP)
    return (usd.scaleb(6) // max(requests, 1) * max(requests, 1)).scaleb(-6)


ZERO = Usage()


class Fact(NamedTuple):
    """One event. Counters move at `at`; analytics shows it from `visible_from`, activity from `activity_from`."""

    at: datetime
    key_hash: str | None
    model: str
    provider: str
    endpoint_id: str
    usage: Usage
    visible_from: datetime
    activity_from: datetime


class Cell(NamedTuple):
    """What sums are grouped by, within an hour or a day."""

    key_hash: str | None
    model: str
    provider: str
    endpoint_id: str
    workspace_id: str


Group = Callable[[Fact], Cell]
Sums = dict[Cell, Usage]


def by_model(fact: Fact) -> Cell:
    """The coarse group of questions that name no key, provider or workspace."""
    return Cell(None, fact.model, "", "", "")


def floor_hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


def sums(facts: Iterable[Fact], group: Group, *, is_cut: bool = False) -> Sums:
    """The facts' usage by group, each request's cost cut or not."""
    found: Sums = {}
    for fact in facts:
        cell = group(fact)
        usage = fact.usage.cut(fact.usage.requests) if is_cut else fact.usage
        known = found.get(cell)
        found[cell] = usage if known is None else known + usage
    return found


class Bucket:
    """The facts of one hour or day; their sums are kept once nothing in it is still to show."""

    def __init__(self, shown: Callable[[Fact], datetime]) -> None:
        self.facts: list[Fact] = []
        self._shown = shown
        self._complete_at: datetime | None = None
        self._sums: dict[tuple[Group, bool], Sums] = {}

    def add(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.forget()

    def remove(self, gone: set[int]) -> None:
        """Takes out the facts with these `id`s."""
        self.facts = [fact for fact in self.facts if id(fact) not in gone]
        self.forget()

    def forget(self) -> None:
        self._complete_at = None
        self._sums = {}

    def sums(self, group: Group, now: datetime, *, is_cut: bool = False) -> Sums:
        """The sums of what shows at `now`."""
        if now < self._all_shown_at():
            return sums((fact for fact in self.facts if self._shown(fact) <= now), group, is_cut=is_cut)
        if (group, is_cut) not in self._sums:
            self._sums[group, is_cut] = sums(self.facts, group, is_cut=is_cut)
        return self._sums[group, is_cut]

    def _all_shown_at(self) -> datetime:
        if self._complete_at is None:
            self._complete_at = max(map(self._shown, self.facts), default=LONG_AGO)
        return self._complete_at


class Series:
    """One key's facts in order of time, with running totals of credits and BYOK USD."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self._totals: tuple[list[datetime], list[Decimal], list[Decimal]] | None = None

    def add(self, fact: Fact) -> None:
        self.facts.append(fact)
        self._totals = None

    def remove(self, gone: set[int]) -> None:
        self.facts = [fact for fact in self.facts if id(fact) not in gone]
        self._totals = None

    def until(self, instant: datetime) -> tuple[Decimal, Decimal, datetime | None]:
        """Credits and BYOK USD of all facts at or before `instant`, and when the last of them was."""
        instants, credits_usd, byok_usd = self._running()
        count = bisect_right(instants, instant)
        if count == 0:
            return NOTHING, NOTHING, None
        return credits_usd[count - 1], byok_usd[count - 1], instants[count - 1]

    def _running(self) -> tuple[list[datetime], list[Decimal], list[Decimal]]:
        if self._totals is None:
            self.facts.sort(key=lambda fact: fact.at)
            self._totals = (
                [fact.at for fact in self.facts],
                list(accumulate(fact.usage.credits_usd for fact in self.facts)),
                list(accumulate(fact.usage.byok_usd for fact in self.facts)),
            )
        return self._totals


class FactStore:
    """All facts of one account, found by hour, by day and by key.

    `workspace_of(key_hash, at)` tells where a fact belongs; call `forget` when its answers change.
    """

    def __init__(self, workspace_of: Callable[[str | None, datetime], str]) -> None:
        self._workspace_of = workspace_of
        self._hours: dict[datetime, Bucket] = {}
        self._days: dict[date, Bucket] = {}
        self._series: dict[str | None, Series] = {}

    def by_cell(self, fact: Fact) -> Cell:
        """What the fact is summed under, with the workspace of its key at that instant."""
        workspace_id = self._workspace_of(fact.key_hash, fact.at)
        return Cell(fact.key_hash, fact.model, fact.provider, fact.endpoint_id, workspace_id)

    def add(self, fact: Fact) -> None:
        for place in self._places(fact):
            place.add(fact)

    def remove(self, facts: list[Fact]) -> None:
        gone = {id(fact) for fact in facts}
        for place in {id(place): place for fact in facts for place in self._places(fact)}.values():
            place.remove(gone)

    def find(self, key_hash: str | None, model: str, start: datetime, end: datetime) -> list[Fact]:
        """One key's facts of one model in [start, end)."""
        facts = self.series(key_hash).facts
        return [fact for fact in facts if fact.model == model and start <= fact.at < end]

    def series(self, key_hash: str | None) -> Series:
        """The facts of one key, or (None) of the chat room; empty where there are none."""
        if key_hash not in self._series:
            self._series[key_hash] = Series()
        return self._series[key_hash]

    def all_series(self) -> list[Series]:
        return list(self._series.values())

    def facts(self, start: datetime, end: datetime, now: datetime, *, late: bool = False) -> Iterator[Fact]:
        """Facts of [start, end) that analytics shows at `now`; `late` adds those that only happened."""
        for hour in self._hours_between(start, end):
            for fact in self._hours[hour].facts:
                if start <= fact.at < end and (fact.at if late else fact.visible_from) <= now:
                    yield fact

    def hours(
        self, start: datetime, end: datetime, now: datetime, group: Group | None = None, *, is_cut: bool = False
    ) -> Iterator[tuple[datetime, Sums]]:
        """What analytics shows at `now` of [start, end), hour by hour."""
        group = group or self.by_cell
        for hour in self._hours_between(start, end):
            if start <= hour and hour + HOUR <= end:
                yield hour, self._hours[hour].sums(group, now, is_cut=is_cut)
            else:
                facts = self.facts(max(start, hour), min(end, hour + HOUR), now)
                yield hour, sums(facts, group, is_cut=is_cut)

    def days(
        self, first: date, end: date, now: datetime, *, late: bool = False, is_cut: bool = False
    ) -> Iterator[tuple[date, Sums]]:
        """What activity shows at `now` of the UTC days [first, end); `late` adds what only happened."""
        for number in range((end - first).days):
            day = first + timedelta(days=number)
            bucket = self._days.get(day)
            if bucket is not None and late:
                yield day, sums((fact for fact in bucket.facts if fact.at <= now), self.by_cell)
            elif bucket is not None:
                yield day, bucket.sums(self.by_cell, now, is_cut=is_cut)

    def forget(self) -> None:
        """Drops kept sums: a key moved to another workspace."""
        for bucket in (*self._hours.values(), *self._days.values()):
            bucket.forget()

    def prepare(self, now: datetime) -> None:
        """Sums everything beforehand, so that the first question is as fast as the next."""
        for bucket in self._hours.values():
            bucket.sums(self.by_cell, now)
            bucket.sums(by_model, now)
        for bucket in self._days.values():
            bucket.sums(self.by_cell, now)

    def _places(self, fact: Fact) -> tuple[Bucket, Bucket, Series]:
        hour, day = floor_hour(fact.at), fact.at.date()
        if hour not in self._hours:
            self._hours[hour] = Bucket(lambda shown: shown.visible_from)
        if day not in self._days:
            self._days[day] = Bucket(lambda shown: shown.activity_from)
        return self._hours[hour], self._days[day], self.series(fact.key_hash)

    def _hours_between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        hour = floor_hour(start)
        while hour < end:
            if hour in self._hours:
                yield hour
            hour += HOUR


def with_byok_requests(usage: Usage) -> Usage:
    """Requests paid to the provider directly are counted as such, unless the caller already did."""
    if not usage.byok_usd or usage.byok_requests:
        return usage
    return replace(usage, byok_requests=usage.requests)
