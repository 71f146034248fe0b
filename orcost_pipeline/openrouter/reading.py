"""What a sync knows before it asks about usage (`Stored`), and what it was told (`UsageReading`). No behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from orcost_pipeline.measures import Measures
from orcost_pipeline.openrouter.records import ActivityRow
from orcost_pipeline.windows import Window

Cell = tuple[datetime, str]  # start of an hour or a day, model
KeyCell = tuple[datetime, str, str]  # start, key hash, model
NamedCell = tuple[datetime, str]  # start, name of a key, blank for no key


class KnownKey(Protocol):
    """A key as the last sync stored it; `names` are all that it ever bore, `name` the last of them."""

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
        """By hash, deleted ones too."""
        ...

    def account_hours(self, window: Window) -> Mapping[Cell, Measures]:
        """Over all keys and no key."""
        ...

    def key_hours(self, windows: Sequence[Window]) -> Mapping[KeyCell, Measures]:
        """By hash; usage without a key left out."""
        ...

    def account_days(self, window: Window) -> Mapping[Cell, Measures]:
        """Days at their start, over all keys and no key."""
        ...

    def key_days(self, windows: Sequence[Window]) -> Mapping[KeyCell, Measures]:
        """Days at their start, by hash; usage without a key left out."""
        ...

    def unsettled_days(self, first: date | None, end: date) -> Sequence[date]:
        """Days before `end`, from the first that is known or from `first` on, that are not settled or not there."""
        ...

    def settled_days(self, first: date) -> Mapping[date, Mapping[str, Measures]]:
        """Settled days from `first` on, by model, over all keys and no key."""
        ...

    def counted_spans(self) -> Sequence[Window]:
        """Spans of several hours of which the keys' counters told one sum, oldest first."""
        ...

    def settled_keys(self, days: Sequence[date]) -> frozenset[str]:
        """Hashes with usage stored on one of the days."""
        ...

    def unexplained_hours(self) -> Sequence[datetime]:
        """Hours that the last sync could not explain by the keys whose names they bear."""
        ...

    def hours_without_key(self, window: Window) -> Sequence[datetime]:
        """Hours with usage that no key is known for."""
        ...

    def hours_from(self) -> datetime | None:
        """The first hour known; None before the first sync."""
        ...

    def as_of(self) -> datetime | None:
        """The instant of the last sync that was published."""
        ...

    def is_read(self) -> bool:
        """Whether analytics were ever read in full."""
        ...

    def is_counted(self) -> bool:
        """Whether hours are booked from the keys' counters, for want of analytics."""
        ...


@dataclass(frozen=True)
class KeyAnswer:
    """What a key was asked for, and what came: cells by (start, model). Silent: its rows stay as stored."""

    key_hash: str
    window: Window
    is_silent: bool
    cells: Mapping[Cell, Measures]


@dataclass(frozen=True)
class KeyDays:
    """A key's activity on the days read. Silent: its days stay as stored."""

    key_hash: str
    is_silent: bool
    rows: Sequence[ActivityRow]


@dataclass
class AnalyticsReading:
    """What analytics told, by hour or by day. What lies outside `windows` is as stored; `heard` is all that the account
    was asked about.

    `unkeyed` is what no key explains of the `named_windows`, by the name that analytics show.
    `changed` are the starts of cells in which a key's usage is not as stored, `unexplained` those in which the
    account's is not yet that of its keys. `doubtful_totals` counts rows whose total is not credits plus BYOK:
    something is counted twice there.
    `covered` is the span that analytics tell of the account, whether it was asked again or not: they may reach back
    less than they are asked. `cached_at`: when the account's answer was made, where the server gave a cached one.
    """

    covered: Window | None = None
    cached_at: datetime | None = None
    windows: list[Window] = field(default_factory=list)
    heard: list[Window] = field(default_factory=list)
    account: dict[Cell, Measures] = field(default_factory=dict)
    keys: list[KeyAnswer] = field(default_factory=list)
    unexplained: list[datetime] = field(default_factory=list)
    named_windows: list[Window] = field(default_factory=list)
    unkeyed: dict[NamedCell, Measures] = field(default_factory=dict)
    changed: set[datetime] = field(default_factory=set)
    doubtful_totals: int = 0

    def key_cells(self, stored: Mapping[KeyCell, Measures]) -> dict[KeyCell, Measures]:
        """The keys' usage as it will be once this reading is published over `stored`."""
        replaced: dict[str, list[Window]] = {}
        for answer in self.keys:
            if not answer.is_silent:
                replaced.setdefault(answer.key_hash, []).append(answer.window)
        cells = {
            cell: measures
            for cell, measures in stored.items()
            if not any(cell[0] in window for window in replaced.get(cell[1], ()))
        }
        for answer in self.keys:
            cells |= {(at, answer.key_hash, model): measures for (at, model), measures in answer.cells.items()}
        return cells


@dataclass
class UsageReading:
    """Everything that one sync was told about usage, whole. Days outside `days` and `past` are as stored.

    Without analytics there are no hours here: they follow from the counters of the keys.
    `days` are told by activity, which was asked about `days_heard`; `past_days`, which activity does not reach, by
    analytics at the grain of a day.
    """

    has_analytics: bool = True
    hours: AnalyticsReading = field(default_factory=AnalyticsReading)
    past: AnalyticsReading = field(default_factory=AnalyticsReading)
    past_days: list[date] = field(default_factory=list)
    days: list[date] = field(default_factory=list)
    days_heard: Window | None = None
    account_days: list[ActivityRow] = field(default_factory=list)
    key_days: list[KeyDays] = field(default_factory=list)
