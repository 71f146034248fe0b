"""The money that a changed mapping moves from company to company, by month. Pure functions.

Spend is given by key and UTC day, so that the preview equals what publishing the second assignment changes, to the last
digit. Spend without a key has no rule, so it never moves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import reduce
from typing import NamedTuple

from orcost_pipeline.companies.assignment import Assignment
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.measures import EXACT

Owners = Mapping[str, Decimal]

_UNATTRIBUTED: Owners = {UNATTRIBUTED: Decimal(1)}


class Change(NamedTuple):
    """UTC days, from `start` to before `end`, on which a key has other owners than before."""

    key_hash: str
    start: date
    end: date
    before: Owners
    after: Owners


class KeyDay(NamedTuple):
    """Spend in USD of a key (None: usage without a key) on a UTC day."""

    key_hash: str | None
    day: date
    credits_usd: Decimal
    byok_usd: Decimal


@dataclass
class Move:
    """Money in USD that moves from one company to another in a UTC month, and the keys that spent it."""

    giver: str
    taker: str
    month: date
    credits_usd: Decimal = Decimal(0)
    byok_usd: Decimal = Decimal(0)
    keys: set[str] = field(default_factory=set)

    def add(self, spent: KeyDay, share: Decimal) -> None:
        """Adds a share (0 to 1) of one key's day."""
        self.credits_usd = EXACT.fma(spent.credits_usd, share, self.credits_usd)
        self.byok_usd = EXACT.fma(spent.byok_usd, share, self.byok_usd)
        if spent.key_hash is not None:
            self.keys.add(spent.key_hash)


def changes(before: Iterable[Assignment], after: Iterable[Assignment]) -> list[Change]:
    """The longest spans of days on which a key's owners or shares differ, ordered by key and day."""
    old, new = _spans(before), _spans(after)
    everything = [_Span(date.min, date.max, _UNATTRIBUTED)]
    return [
        change
        for key_hash in sorted(new.keys() | old.keys())
        for change in _differing(key_hash, old.get(key_hash, everything), new.get(key_hash, everything))
    ]


def moves(changed: Iterable[Change], spent: Iterable[KeyDay]) -> list[Move]:
    """One move per giver, taker and UTC month in which money moves between the two, amounts in USD with every digit.

    Days without spend move nothing, whoever owns them.
    """
    by_key: dict[str | None, list[Change]] = defaultdict(list)
    for change in changed:
        by_key[change.key_hash].append(change)
    starts = {key_hash: [change.start for change in of_key] for key_hash, of_key in by_key.items()}
    found: dict[tuple[str, str, date], Move] = {}
    for cell in spent:
        place = bisect_right(starts.get(cell.key_hash, []), cell.day) - 1
        if place < 0 or cell.day >= by_key[cell.key_hash][place].end:
            continue
        change = by_key[cell.key_hash][place]
        for giver, taker, share in transfers(change.before, change.after):
            group = giver, taker, cell.day.replace(day=1)
            found.setdefault(group, Move(*group)).add(cell, share)
    return [move for move in found.values() if move.credits_usd or move.byok_usd]


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """The sum with every digit, however long products of amounts and shares are."""
    return reduce(EXACT.add, amounts, Decimal(0))


def transfers(before: Owners, after: Owners) -> Iterator[tuple[str, str, Decimal]]:
    """Which part (0 to 1) moves from whom to whom; what a company keeps does not move.

    Only sums and differences of shares occur, so parts stay exact.
    """
    giving, taking = _excess(before, after), _excess(after, before)
    while giving and taking:
        (giver, offered), (taker, wanted) = giving[-1], taking[-1]
        part = min(offered, wanted)
        yield giver, taker, part
        for side, name, amount in ((giving, giver, offered), (taking, taker, wanted)):
            side.pop()
            if amount != part:
                side.append((name, EXACT.subtract(amount, part)))


def _excess(owners: Owners, others: Owners) -> list[tuple[str, Decimal]]:
    """By how much each company's share exceeds the one in `others`, in reverse order of names."""
    parts = {name: EXACT.subtract(share, others.get(name, Decimal(0))) for name, share in owners.items()}
    return sorted(((name, part) for name, part in parts.items() if part > 0), reverse=True)


class _Span(NamedTuple):
    start: date
    end: date
    owners: Owners


def _spans(rows: Iterable[Assignment]) -> dict[str, list[_Span]]:
    """The owners of each key, span by span."""
    owners: dict[str, dict[tuple[date, date], dict[str, Decimal]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.key_hash is not None:
            days = row.valid_from or date.min, row.valid_to or date.max
            owners[row.key_hash][days][row.company] = row.share
    return {key: sorted(_Span(*days, shares) for days, shares in spans.items()) for key, spans in owners.items()}


def _differing(key_hash: str, before: list[_Span], after: list[_Span]) -> Iterator[Change]:
    """The changes of one key. Both lists cover all days, which are cut where either has a new span."""
    last: Change | None = None
    old, new, start = iter(before), iter(after), date.min
    was, will = next(old), next(new)
    while start < date.max:
        end = min(was.end, will.end)
        if was.owners != will.owners:
            if last and last.end == start and (last.before, last.after) == (was.owners, will.owners):
                last = last._replace(end=end)
            else:
                if last:
                    yield last
                last = Change(key_hash, start, end, was.owners, will.owners)
        start = end
        was = next(old, was) if was.end == end else was
        will = next(new, will) if will.end == end else will
    if last:
        yield last
