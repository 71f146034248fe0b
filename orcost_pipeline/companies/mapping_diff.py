"""The changes from one version of the mapping to another, rule by rule. Pure functions.

A rule is identified by what it matches: account, match, pattern and dates. Its owners may change, and so may its place,
which decides where several rules match.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, NamedTuple

from orcost_pipeline.companies.mapping import Rule

Kind = Literal["added", "removed", "changed", "moved"]
KINDS: tuple[Kind, ...] = ("added", "removed", "changed", "moved")


class RuleChange(NamedTuple):
    """A rule that was added, removed, given other owners, or moved among the rules that stayed."""

    kind: Kind
    before: Rule | None
    after: Rule | None

    @property
    def line(self) -> int:
        """The rule's line in the new version, or in the old one where it was removed."""
        rule = self.after or self.before
        assert rule is not None  # noqa: S101 - a change is of some rule
        return rule.line


def compare(before: Sequence[Rule], after: Sequence[Rule]) -> list[RuleChange]:
    """All changes, in the order of lines."""
    old, new = _by_identity(before), _by_identity(after)
    stayed = [it for it in old if it in new]
    changes = [RuleChange("removed", rule, None) for it, rule in old.items() if it not in new]
    changes += [RuleChange("added", None, rule) for it, rule in new.items() if it not in old]
    changes += [RuleChange("changed", old[it], new[it]) for it in stayed if _owners(old[it]) != _owners(new[it])]
    kept = _longest_rising([new[it].position for it in stayed])
    changes += [RuleChange("moved", old[it], new[it]) for it in stayed if new[it].position not in kept]
    return sorted(changes, key=lambda change: (change.line, KINDS.index(change.kind)))


def counted(changes: Iterable[RuleChange]) -> dict[str, int]:
    """The number of changes of each kind."""
    found: Counter[Kind] = Counter(change.kind for change in changes)
    return {kind: found[kind] for kind in KINDS}


def identity(rule: Rule) -> Hashable:
    """What a rule matches, by which it is recognised in another version."""
    return rule.account, rule.match, rule.pattern, rule.valid_from, rule.valid_to


def _by_identity(rules: Iterable[Rule]) -> dict[Hashable, Rule]:
    """Rules by identity; a repetition of the same rule counts as another one."""
    found: dict[Hashable, Rule] = {}
    seen: Counter[Hashable] = Counter()
    for rule in rules:
        seen[identity(rule)] += 1
        found[identity(rule), seen[identity(rule)]] = rule
    return found


def _owners(rule: Rule) -> set[Hashable]:
    return {(share.company, share.percent, share.note) for share in rule.shares}


def _longest_rising(positions: Sequence[int]) -> set[int]:
    """The longest increasing subsequence of positions; rules outside it were moved."""
    tails: list[int] = []
    places: list[int] = []
    for position in positions:
        place = bisect_left(tails, position)
        tails[place : place + 1] = [position]
        places.append(place)
    kept: set[int] = set()
    wanted = len(tails) - 1
    for position, place in zip(reversed(positions), reversed(places), strict=True):
        if place == wanted:
            kept.add(position)
            wanted -= 1
    return kept
