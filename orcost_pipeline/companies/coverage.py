"""How much a mapping covers: the attributed part of keys and spend, and the rules that win nothing.

Counted over the last 30 UTC days, including today. Pure functions.
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
    """An amount in USD, and the part of it that belongs to no company."""

    whole: Decimal
    unattributed: Decimal


_NOTHING = Part(Decimal(0), Decimal(0))


@dataclass
class Coverage:
    """Active keys with an owner today, spend in USD by UTC day, and rules that matched or won, over all accounts."""

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
        """Adds an account: its keys, the UTC days on which some were deleted, and its spend (USD) since `first_day`.

        A deleted key is not among the active keys, but its spend counts, and rules may match it if it was still there
        on one of the days.
        """
        without_owner = unattributed_spans(assign(account, rules, keys))
        active = [key.key_hash for key in keys if key.key_hash not in deleted]
        self.keys += len(active)
        self.attributed_keys += sum(not covers(without_owner.get(key_hash, ()), today) for key_hash in active)
        for cell in spent:
            is_unattributed = covers(without_owner.get(cell.key_hash, ()), cell.day)
            for amounts, usd in ((self.credits_usd, cell.credits_usd), (self.byok_usd, cell.byok_usd)):
                whole, unattributed = amounts.get(cell.day, _NOTHING)
                amounts[cell.day] = Part(
                    EXACT.add(whole, usd), EXACT.add(unattributed, usd) if is_unattributed else unattributed
                )
        existing = [key for key in keys if deleted.get(key.key_hash, today) >= first_day(today)]
        found = used(account, rules, existing, first_day(today), today + DAY)
        self._accounts.add(account)
        self._matching |= found.matching
        self._winning |= found.winning

    def spend(self) -> Part:
        """Credits of all days, in USD."""
        return _sum(self.credits_usd.values())

    def byok(self) -> Part:
        """BYOK spend of all days, in USD."""
        return _sum(self.byok_usd.values())

    def idle(self, rules: Iterable[Rule], today: date) -> list[Mistake]:
        """A warning for each rule of a counted account that was valid on all these days and won no key."""
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
    """The first of the days that are counted."""
    return today - (DAYS - 1) * DAY


def unattributed_spans(assignments: Iterable[Assignment]) -> dict[str | None, list[Assignment]]:
    """By key (None: spend without a key), the spans of days on which it belongs to no company."""
    found: dict[str | None, list[Assignment]] = {}
    for row in assignments:
        if row.company == UNATTRIBUTED:
            found.setdefault(row.key_hash, []).append(row)
    return found


def covers(rows: Iterable[Assignment], day: date) -> bool:
    """Whether one of the assignments is valid on the day."""
    return any((row.valid_from or date.min) <= day < (row.valid_to or date.max) for row in rows)


def _sum(parts: Collection[Part]) -> Part:
    return Part(exact_sum(part.whole for part in parts), exact_sum(part.unattributed for part in parts))
