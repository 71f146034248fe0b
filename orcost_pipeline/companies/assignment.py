"""Rules × key history → who owns which key on which day, and why. Pure functions: no clock, no file, no database.

The first rule of the file that matches a key on a UTC day wins. A version of a key applies from the day on which it was
first seen; a day uses its last version, and the first and last versions extend without limit into past and future. An
attribute that a key lacks matches nothing. The result is total: every key, and spend without a key, has an owner on
every day, `Unattributed` where nothing matches, and the shares of a day sum to exactly 1.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import chain, pairwise
from typing import Literal, NamedTuple

from orcost_pipeline.companies.mapping import UNATTRIBUTED, Rule

# No mapping contains it, so only wildcards match it.
_NO_LETTER = "\0"
# The attribute that a made-up key has for each match.
_FIELDS = {
    "key_name": "name",
    "workspace": "workspace_name",
    "creator": "creator_email",
    "external_user": "external_user",
    "label": "label",
}

# Days are ordinals inside this module, so that "without limit" is a number too: before and after every date.
_BEGINNING, _END = 0, date.max.toordinal() + 1


@dataclass(frozen=True)
class KeyVersion:
    """A key's attributes from `valid_from` on, the instant (UTC) of the sync that first saw them."""

    valid_from: datetime
    name: str
    label: str
    workspace_id: str | None = None
    workspace_name: str | None = None
    creator_user_id: str | None = None
    creator_email: str | None = None
    external_user: str | None = None

    def values(self) -> Iterator[tuple[str, str | None]]:
        """The values that rules can match, each with its `match`; None for an absent attribute."""
        yield "key_name", self.name
        yield "workspace", self.workspace_id
        yield "workspace", self.workspace_name
        yield "creator", self.creator_user_id
        yield "creator", self.creator_email
        yield "external_user", self.external_user
        yield "label", self.label


@dataclass(frozen=True)
class KeyHistory:
    """A key and all its versions. A key that was never listed has none, and only rules for its hash match it."""

    key_hash: str
    versions: tuple[KeyVersion, ...]


@dataclass(frozen=True)
class Assignment:
    """One company's share (0 to 1) of a key (None: spend without a key), from UTC day `valid_from` to before
    `valid_to` (None: without limit). `rule` and `line` are None for Unattributed."""

    key_hash: str | None
    valid_from: date | None
    valid_to: date | None
    company: str
    share: Decimal
    rule: str | None
    line: int | None


@dataclass(frozen=True)
class Considered:
    """A rule that matches the key and did not win, and why.

    is_outranked: whether it is valid on the day, and another one comes before it.
    """

    rule: Rule
    reason: str
    is_outranked: bool


@dataclass(frozen=True)
class Explanation:
    """Why a key belongs to its owners on a day: `shares` are (company, percent); without `rule` it is Unattributed."""

    on: date
    version: KeyVersion | None
    rule: Rule | None
    shares: tuple[tuple[str, Decimal], ...]
    considered: tuple[Considered, ...]

    @property
    def company(self) -> str | None:
        """The one owner; None where the key is split."""
        return self.shares[0][0] if len(self.shares) == 1 else None


def assign(account: str, rules: Sequence[Rule], keys: Iterable[KeyHistory]) -> list[Assignment]:
    """The owners of an account's keys, and of spend without a key, for every day; ordered by key and day.

    The first rule that matches a key on a day wins it. Every key is covered without a gap, from no start to no end, and
    its shares of a day sum to 1: what no rule wins is Unattributed.
    """
    index = _Index(account, rules)
    no_key = _Span(_BEGINNING, _END, None)
    rows = list(_assignments(None, no_key))
    for key in sorted(keys, key=lambda key: key.key_hash):
        rows += chain.from_iterable(_assignments(key.key_hash, span) for span in _owned(index, key))
    return rows


def explain(account: str, rules: Sequence[Rule], key: KeyHistory, on: date) -> Explanation:
    """Which rule wins for a key on a UTC day, and why other matching rules do not."""
    day = on.toordinal()
    version = next(held.version for held in _held(key) if held.start <= day < held.end)
    matching = _Index(account, rules).matching(key.key_hash, version)
    winner = _winner(matching, day)
    shares = tuple((share.company, share.percent) for share in winner.shares) if winner else ()
    considered = tuple(_considered(rule, on) for rule in matching if rule is not winner)
    return Explanation(on, version, winner, shares or ((UNATTRIBUTED, Decimal(100)),), considered)


class Used(NamedTuple):
    """The positions of the rules that match a key within a period, and of those that win one."""

    matching: set[int]
    winning: set[int]


def used(account: str, rules: Sequence[Rule], keys: Iterable[KeyHistory], first: date, end: date) -> Used:
    """Which rules match and win keys of an account from day `first` to before `end`."""
    index = _Index(account, rules)
    found = Used(set(), set())
    for key in keys:
        for held in _held(key):
            days = held._replace(start=max(held.start, first.toordinal()), end=min(held.end, end.toordinal()))
            if days.start < days.end:
                matching = index.matching(key.key_hash, days.version)
                found.matching.update(rule.position for rule in matching)
                found.winning.update(span.rule.position for span in _spans(matching, days) if span.rule)
    return found


class Contest(NamedTuple):
    """The hashes of keys that a rule matches while it is valid, and the positions of the rules that win one then."""

    keys: set[str]
    winning: set[int]


def contest(account: str, rules: Sequence[Rule], rule: Rule, keys: Iterable[KeyHistory]) -> Contest:
    """Which rules win the keys of an account that `rule` (one of `rules`) matches, on the days when it is valid."""
    index = _Index(account, rules)
    start, end = _period(rule)
    found = Contest(set(), set())
    for key in keys:
        for held in _held(key):
            days = held._replace(start=max(held.start, start), end=min(held.end, end))
            if days.start < days.end and rule in (matching := index.matching(key.key_hash, days.version)):
                found.keys.add(key.key_hash)
                found.winning.update(span.rule.position for span in _spans(matching, days) if span.rule)
    return found


def made_up_keys(rule: Rule, rules: Iterable[Rule]) -> list[KeyHistory]:
    """Invented keys that `rule` matches: if other rules win them all, they win any key that it could match.

    In place of a wildcard they have text that only wildcards match: one key with none, one with a lot of it.
    """
    if rule.match == "key_hash":
        return [KeyHistory(rule.pattern, ())]
    much = _NO_LETTER * (1 + max(len(other.pattern) for other in rules))
    unlike_any = KeyVersion(datetime.min.replace(tzinfo=UTC), much, much)
    texts = {rule.pattern.replace("?", _NO_LETTER).replace("*", meant) for meant in ("", much)}
    return [
        KeyHistory(f"made up {number}", (replace(unlike_any, **{_FIELDS[rule.match]: text}),))
        for number, text in enumerate(sorted(texts))
    ]


def glob_matches(pattern: str, value: str) -> bool:
    """Whether a case-sensitive glob matches the whole value; only `*` and `?` are special."""
    head, *rest = pattern.split("*")
    if not rest:
        return len(head) == len(value) and _fits(head, value, 0)
    *middle, tail = rest
    at, end = len(head), len(value) - len(tail)
    if at > end or not _fits(head, value, 0) or not _fits(tail, value, end):
        return False
    for piece in middle:
        found = _find(piece, value, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _fits(piece: str, value: str, at: int) -> bool:
    if "?" not in piece:
        return value.startswith(piece, at)
    part = value[at : at + len(piece)]
    return len(part) == len(piece) and all(wanted in ("?", char) for wanted, char in zip(piece, part, strict=True))


def _find(piece: str, value: str, at: int, end: int) -> int:
    if "?" not in piece:
        return value.find(piece, at, end)
    return next((start for start in range(at, end - len(piece) + 1) if _fits(piece, value, start)), -1)


# Which rules match a key


_Anchor = Literal["start", "end", "inside"]


class _Index:
    """The rules of one account, indexed by the values that they match.

    A rule without wildcards is found by its pattern, a glob by its longest literal run; each distinct value is
    looked up once.
    """

    def __init__(self, account: str, rules: Iterable[Rule]) -> None:
        self._exact: dict[tuple[str, str], list[Rule]] = defaultdict(list)
        self._globs: dict[tuple[str, _Anchor, int], dict[str, list[Rule]]] = {}
        self._found: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            if rule.account in (None, account):
                self._add(rule)

    def _add(self, rule: Rule) -> None:
        if rule.match == "key_hash" or not ("*" in rule.pattern or "?" in rule.pattern):
            self._exact[rule.match, rule.pattern].append(rule)
            return
        anchor, literal = _literal(rule.pattern)
        by_literal = self._globs.setdefault((rule.match, anchor, len(literal)), {})
        by_literal.setdefault(literal, []).append(rule)

    def matching(self, key_hash: str, version: KeyVersion | None) -> list[Rule]:
        """The rules that match a version of a key on some day, in file order."""
        values = version.values() if version else ()
        found = self._exact.get(("key_hash", key_hash), [])
        by_position = {rule.position: rule for rule in found}
        for match, value in values:
            if value is not None:
                by_position.update((rule.position, rule) for rule in self._matching_value(match, value))
        return [by_position[position] for position in sorted(by_position)]

    def _matching_value(self, match: str, value: str) -> list[Rule]:
        found = self._found.get((match, value))
        if found is None:
            globs = [rule for rule in self._candidates(match, value) if glob_matches(rule.pattern, value)]
            found = self._found[match, value] = self._exact.get((match, value), []) + globs
        return found

    def _candidates(self, match: str, value: str) -> Iterator[Rule]:
        for (looked_at, anchor, length), by_literal in self._globs.items():
            if looked_at == match:
                for piece in _pieces(value, anchor, length):
                    yield from by_literal.get(piece, ())


def _literal(pattern: str) -> tuple[_Anchor, str]:
    """The longest run of a glob without wildcards, and where matching values contain it."""
    runs = re.split(r"[*?]", pattern)
    longest = max(runs, key=len)
    if longest == runs[0]:
        return "start", longest
    return ("end" if longest == runs[-1] else "inside"), longest


def _pieces(value: str, anchor: _Anchor, length: int) -> Iterable[str]:
    """The distinct runs of this length at that place of a value."""
    if length > len(value):
        return ()
    if anchor == "start":
        return (value[:length],)
    if anchor == "end":
        return (value[len(value) - length :],)
    return {value[start : start + length] for start in range(len(value) - length + 1)}


# Which of them wins, and when


class _Span(NamedTuple):
    start: int
    end: int
    rule: Rule | None


class _Held(NamedTuple):
    start: int
    end: int
    version: KeyVersion | None


def _held(key: KeyHistory) -> list[_Held]:
    """The days on which each version of a key applies; together they cover all days."""
    starts: dict[int, KeyVersion | None] = {_BEGINNING: None}
    for number, version in enumerate(sorted(key.versions, key=lambda version: version.valid_from)):
        day = version.valid_from.astimezone(UTC).toordinal()
        starts[day if number else _BEGINNING] = version
    return [_Held(start, end, starts[start]) for start, end in pairwise([*starts, _END])]


def _owned(index: _Index, key: KeyHistory) -> Iterator[_Span]:
    """The longest spans of days with the same rule, or without one; together they cover all days."""
    last: _Span | None = None
    for held in _held(key):
        for span in _spans(index.matching(key.key_hash, held.version), held):
            if last and last.rule == span.rule:
                last = _Span(last.start, span.end, span.rule)
                continue
            if last:
                yield last
            last = span
    if last:
        yield last


def _spans(matching: list[Rule], held: _Held) -> Iterator[_Span]:
    """The winning rule of each stretch of days within which no rule begins or ends."""
    rules = list(_up_to_the_first_that_covers(matching, held))
    days = {day for rule in rules for day in _period(rule) if held.start < day < held.end}
    for start, end in pairwise([held.start, *sorted(days), held.end]):
        yield _Span(start, end, _winner(rules, start))


def _up_to_the_first_that_covers(matching: list[Rule], held: _Held) -> Iterator[Rule]:
    for rule in matching:
        yield rule
        start, end = _period(rule)
        if start <= held.start and held.end <= end:
            return


def _winner(rules: list[Rule], day: int) -> Rule | None:
    for rule in rules:
        start, end = _period(rule)
        if start <= day < end:
            return rule
    return None


def _period(rule: Rule) -> tuple[int, int]:
    start = rule.valid_from.toordinal() if rule.valid_from else _BEGINNING
    return start, rule.valid_to.toordinal() if rule.valid_to else _END


def _considered(rule: Rule, on: date) -> Considered:
    if rule.valid_from and on < rule.valid_from:
        return Considered(rule, f"from {rule.valid_from}", is_outranked=False)
    if rule.valid_to and on >= rule.valid_to:
        return Considered(rule, f"until {rule.valid_to}", is_outranked=False)
    return Considered(rule, "later in the file", is_outranked=True)


def _assignments(key_hash: str | None, span: _Span) -> Iterator[Assignment]:
    start = date.fromordinal(span.start) if span.start > _BEGINNING else None
    end = date.fromordinal(span.end) if span.end < _END else None
    if span.rule is None:
        yield Assignment(key_hash, start, end, UNATTRIBUTED, Decimal(1), None, None)
        return
    for share in span.rule.shares:
        yield Assignment(key_hash, start, end, share.company, share.fraction, span.rule.name, span.rule.line)
