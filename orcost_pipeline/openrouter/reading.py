"""Records of reading usage: what is stored before (`Stored`), and what a reading returns (`UsageReading`). No behaviour
beyond deriving one view from another."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from orcost_pipeline.measures import Measures, grouped
from orcost_pipeline.openrouter.api.records import ActivityRow
from orcost_pipeline.windows import Window, utc_day

Cell = tuple[datetime, str]  # start of an hour or a day, model
KeyCell = tuple[datetime, str, str]  # start, key hash, model
NamedCell = tuple[datetime, str]  # start, name of a key, blank for no key
KeyDay = tuple[date, str, str]  # UTC day, key hash, model


@dataclass(frozen=True)
class ListedKey:
    """An active key as this sync listed it; USD as OpenRouter counted them since the key was made."""

    key_hash: str
    name: str
    label: str
    created_at: datetime | None
    last_used_at: datetime | None
    usage_usd: Decimal
    byok_usage_usd: Decimal


class KnownKey(Protocol):
    """A key as the last sync stored it, USD since its creation; `names` are all it ever had, `name` the last one."""

    @property
    def name(self) -> str: ...
    @property
    def names(self) -> frozenset[str]: ...
    @property
    def usage_usd(self) -> Decimal: ...
    @property
    def byok_usage_usd(self) -> Decimal: ...
    @property
    def last_used_at(self) -> datetime | None: ...
    @property
    def deleted_at(self) -> datetime | None: ...


class Stored(Protocol):
    """What the warehouse holds of one account."""

    def known_keys(self) -> Mapping[str, KnownKey]:
        """All stored keys by hash, including deleted ones."""
        ...

    def account_hours(self, window: Window) -> Mapping[Cell, Measures]:
        """Usage by hour and model over all keys and no key."""
        ...

    def key_hours(self, windows: Sequence[Window]) -> Mapping[KeyCell, Measures]:
        """Usage by hour, key and model."""
        ...

    def hours_by_key_day(self, windows: Sequence[Window]) -> Mapping[KeyDay, Measures]:
        """Usage by hour, summed by UTC day, key and model."""
        ...

    def account_days(self, window: Window) -> Mapping[Cell, Measures]:
        """Usage by UTC day and model over all keys and no key."""
        ...

    def key_days(self, windows: Sequence[Window]) -> Mapping[KeyCell, Measures]:
        """Usage by UTC day, key and model."""
        ...

    def days_of_keys(self, key_hashes: Sequence[str], days: Sequence[date]) -> Mapping[KeyDay, Measures]:
        """Usage of some keys by UTC day, key and model."""
        ...

    def hours_read_at(self, first: date, end: date) -> Mapping[date, datetime | None]:
        """When the hours of each stored day, from `first` to before `end`, were last read of every key."""
        ...

    def activity_read_at(self) -> Mapping[str, datetime | None]:
        """When the activity of each key was last read and compared with the stored days."""
        ...

    def unsettled_days(self, first: date | None, end: date) -> Sequence[date]:
        """Days before `end` that are not settled, from the first one stored, or `first` if that is earlier."""
        ...

    def settled_days(self, first: date) -> Mapping[date, Mapping[str, Measures]]:
        """Settled days from `first` on, by model, over all keys and no key."""
        ...

    def counted_spans(self) -> Sequence[Window]:
        """Spans of several hours of which the keys' counters gave one sum, oldest first."""
        ...

    def settled_keys(self, days: Sequence[date]) -> frozenset[str]:
        """Hashes of keys with usage stored on one of the days."""
        ...

    def unexplained_hours(self) -> Sequence[datetime]:
        """Hours that the last sync could not explain by keys."""
        ...

    def hours_without_key(self, window: Window) -> Sequence[datetime]:
        """Hours with usage without a known key."""
        ...

    def hours_from(self) -> datetime | None:
        """The first known hour; None before the first sync."""
        ...

    def as_of(self) -> datetime | None:
        """The instant of the last published sync; None before the first."""
        ...

    def is_read(self) -> bool:
        """Whether analytics were ever read in full."""
        ...

    def is_counted(self) -> bool:
        """Whether hours are booked from the keys' counters because analytics are not available."""
        ...


@dataclass(frozen=True)
class AccountUsage:
    """The account's usage over all keys and no key, by model, in one response of analytics.

    `requested` is the window of the question, `covered` the part that the response reports; earlier usage is unknown.
    `cached_at` is when the server made a cached response that is older than the question; None otherwise.
    `doubtful_totals` counts rows whose total is not credits plus BYOK: something is counted twice there.
    """

    requested: Window
    covered: Window
    cells: Mapping[Cell, Measures]
    cached_at: datetime | None = None
    doubtful_totals: int = 0


@dataclass(frozen=True)
class KeyUsage:
    """One key's usage in a window. Silent: the API reports nothing for the key, so its stored rows stay."""

    key_hash: str
    window: Window
    is_silent: bool
    cells: Mapping[Cell, Measures]


@dataclass(frozen=True)
class KeyDays:
    """A key's activity on the days read. Silent: the API reports nothing for the key, so its stored days stay."""

    key_hash: str
    is_silent: bool
    rows: Sequence[ActivityRow]


@dataclass(frozen=True)
class AnalyticsReading:
    """Usage of some windows, read from analytics by hour or by day and by key.

    `unkeyed` is usage in the `named_windows` that no key explains, by the name that analytics show.
    `changed` are the cells of keys whose usage differs from what is stored, with the difference; `unexplained` the
    starts of those in which the keys do not sum to the account yet. `is_full`: every key was read.
    """

    windows: Sequence[Window] = ()
    account: Mapping[Cell, Measures] = field(default_factory=dict)
    keys: Sequence[KeyUsage] = ()
    unexplained: Sequence[datetime] = ()
    named_windows: Sequence[Window] = ()
    unkeyed: Mapping[NamedCell, Measures] = field(default_factory=dict)
    changed: Mapping[KeyCell, Measures] = field(default_factory=dict)
    doubtful_totals: int = 0
    is_full: bool = False

    def only(self, starts: Collection[datetime]) -> "AnalyticsReading":
        """The same without the usage of other starts."""
        keys = [replace(answer, cells=_of_starts(answer.cells, starts)) for answer in self.keys]
        return replace(self, account=_of_starts(self.account, starts), keys=keys)


def _of_starts(cells: Mapping[Cell, Measures], starts: Collection[datetime]) -> dict[Cell, Measures]:
    return {cell: measures for cell, measures in cells.items() if cell[0] in starts}


def merged(stored: Mapping[KeyCell, Measures], keys: Sequence[KeyUsage]) -> dict[KeyCell, Measures]:
    """Stored usage of keys, replaced in each window by what the key reports there, unless it is silent."""
    replaced: dict[str, list[Window]] = {}
    for usage in keys:
        if not usage.is_silent:
            replaced.setdefault(usage.key_hash, []).append(usage.window)
    cells = {
        cell: measures
        for cell, measures in stored.items()
        if not any(cell[0] in window for window in replaced.get(cell[1], ()))
    }
    for usage in keys:
        cells |= {(at, usage.key_hash, model): measures for (at, model), measures in usage.cells.items()}
    return cells


@dataclass(frozen=True)
class UsageSummary:
    """Usage by hour or by day as one sync read it, without the rows of keys: those were kept as they came.

    Usage outside `windows` is as stored; `requested` are the windows of the questions about the account as a whole.
    `changed` and `unexplained` are starts, as in AnalyticsReading; `key_days` are the differences of keys from
    what is stored, by UTC day. `rows` counts rows by account and by key. `covered` and `cached_at` as in AccountUsage.
    """

    covered: Window | None = None
    cached_at: datetime | None = None
    requested: Sequence[Window] = ()
    windows: Sequence[Window] = ()
    account: Mapping[Cell, Measures] = field(default_factory=dict)
    changed: frozenset[datetime] = frozenset()
    unexplained: Sequence[datetime] = ()
    key_days: Mapping[KeyDay, Measures] = field(default_factory=dict)
    keys_asked: frozenset[str] = frozenset()
    rows: int = 0
    doubtful_totals: int = 0

    @classmethod
    def of_account(cls, account: AccountUsage) -> "UsageSummary":
        """What the account's usage says, before any key is read."""
        return cls(account.covered, account.cached_at, [account.requested], doubtful_totals=account.doubtful_totals)

    def plus(self, part: AnalyticsReading) -> "UsageSummary":
        """With the usage of further windows."""
        changed = (((utc_day(at), *cell), measures) for (at, *cell), measures in part.changed.items())
        return replace(
            self,
            windows=[*self.windows, *part.windows],
            account={**self.account, **part.account},
            changed=self.changed | {at for at, _, _ in part.changed},
            unexplained=[*self.unexplained, *part.unexplained],
            key_days=grouped([*self.key_days.items(), *changed]),
            keys_asked=self.keys_asked | {answer.key_hash for answer in part.keys},
            rows=self.rows + len(part.account) + sum(len(answer.cells) for answer in part.keys),
            doubtful_totals=self.doubtful_totals + part.doubtful_totals,
        )


class Kept(Protocol):
    """Where usage is kept as soon as it is read, a part at a time, and what an interrupted sync has left there."""

    def keep_hours(self, part: AnalyticsReading) -> None:
        """Keeps usage of some windows by hour."""
        ...

    def keep_days(self, part: AnalyticsReading) -> None:
        """Keeps usage of some windows by day."""
        ...

    def left_windows(self) -> Sequence[Window]:
        """Windows whose hours an interrupted sync has read of every key; none overlap."""
        ...

    def left_hours(self, window: Window) -> AnalyticsReading:
        """What it has read in one of these windows, but for what changed."""
        ...


@dataclass(frozen=True)
class ActivityReading:
    """Days to settle, read from activity of the window `requested`; days outside `days` are as stored.

    `compared` are the hashes of the keys whose days were all compared with what is stored.
    """

    requested: Window
    days: Sequence[date] = ()
    account: Sequence[ActivityRow] = ()
    keys: Sequence[KeyDays] = ()
    compared: Sequence[str] = ()


@dataclass(frozen=True)
class UsageReading:
    """All usage read by one sync. Without analytics there are no hours: they follow from the keys' counters.

    `activity` is None where the API does not report it to this account. `past_days`, too old for activity, are those
    of `past`, read from analytics by day.
    """

    has_analytics: bool
    hours: UsageSummary = field(default_factory=UsageSummary)
    past: UsageSummary = field(default_factory=UsageSummary)
    past_days: Sequence[date] = ()
    activity: ActivityReading | None = None
