"""How much a mapping covers: the part of keys and spend that it gives to companies, and the rules that give nothing.

Of the last 30 UTC days, today's included. Pure: what there is comes as arguments.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from orcost_pipeline.companies.assignment import Assignment, KeyHistory, assign, used
from orcost_pipeline.companies.mapping import UNATTRIBUTED, Rule
from orcost_pipeline.companies.preview import KeyDay, exact_sum
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.measures import EXACT
from orcost_pipeline.windows import DAY

DAYS = 30


class Part(NamedTuple):
    """USD, and how much of it belongs to no company."""

    whole: Decimal
    unattributed: Decimal


_NOTHING = Part(Decimal(0), Decimal(0))


@dataclass
class Coverage:
    """Living keys with their owners of today, spend by UTC day, and which rules were of use; account by account."""

    keys: int = 0
    attributed_keys: int = 0
    credits_usd: dict[date, Part] = field(default_factory=dict)
    byok_usd: dict[date, Part] = field(default_factory=dict)
    _accounts: set[str] = field(default_factory=set)
    _matching: set[int] = field(default_factory=set)
    _winning: set[int] = field(default_factory=set)

    def count(
        self,
        account: str,
        rules: Sequence[Rule],
        keys: Collection[KeyHistory],
        deleted: Mapping[str, date],
        spent: Iterable[KeyDay],
        today: date,
    ) -> None:
        """Adds an account: its keys, the day on which some of them were gone, and what was spent since `first_day`."""
        without_owner = nobodys(assign(account, rules, keys))
        living = [key.key_hash for key in keys if key.key_hash not in deleted]
        self.keys += len(living)
        self.attributed_keys += sum(not covers(without_owner.get(key_hash, ()), today) for key_hash in living)
        for cell in spent:
            is_nobodys = covers(without_owner.get(cell.key_hash, ()), cell.day)
            for amounts, usd in ((self.credits_usd, cell.credits_usd), (self.byok_usd, cell.byok_usd)):
                whole, unattributed = amounts.get(cell.day, _NOTHING)
                amounts[cell.day] = Part(
                    EXACT.add(whole, usd), EXACT.add(unattributed, usd) if is_nobodys else unattributed
                )
        there = [key for key in keys if deleted.get(key.key_hash, today) >= first_day(today)]
        found = used(account, rules, there, first_day(today), today + DAY)
        self._accounts.add(account)
        self._matching |= found.matching
        self._winning |= found.winning

    def spend(self) -> Part:
        return _sum(self.credits_usd.values())

    def byok(self) -> Part:
        return _sum(self.byok_usd.values())

    def idle(self, rules: Iterable[Rule], today: date) -> list[Mistake]:
        """A warning for each rule that held in all these days, for an account that was counted, and won no key."""
        return [
            Mistake(rule.line, f"{rule} {self._reason(rule)}")
            for rule in rules
            if rule.position not in self._winning
            and self._accounts & ({rule.account} if rule.account else self._accounts)
            and (rule.valid_from or date.min) <= first_day(today)
            and (rule.valid_to or date.max) > today
        ]

    def _reason(self, rule: Rule) -> str:
        if rule.position in self._matching:
            return f"won no key in the last {DAYS} days: earlier lines took all that it matches."
        return f"matched no key in the last {DAYS} days."


def first_day(today: date) -> date:
    """The first of the days that are looked at."""
    return today - (DAYS - 1) * DAY


def nobodys(assignments: Iterable[Assignment]) -> dict[str | None, list[Assignment]]:
    """The spans of days on which a key, or spend without one, belongs to no company."""
    found: dict[str | None, list[Assignment]] = {}
    for row in assignments:
        if row.company == UNATTRIBUTED:
            found.setdefault(row.key_hash, []).append(row)
    return found


def covers(rows: Iterable[Assignment], day: date) -> bool:
    return any((row.valid_from or date.min) <= day < (row.valid_to or date.max) for row in rows)


def _sum(parts: Collection[Part]) -> Part:
    return Part(exact_sum(part.whole for part in parts), exact_sum(part.unattributed for part in parts))
