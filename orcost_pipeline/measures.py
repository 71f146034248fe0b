"""The seven measures that every usage and spend relation carries, under one name everywhere.

`credits_usd` is what OpenRouter charged, `byok_usd` what the customer's own provider account was charged (an estimate);
they are never added. Reasoning tokens are a part of completion tokens, cached tokens a part of prompt tokens.
"""

from collections.abc import Hashable, Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple, TypeVar

# Below this, two amounts that passed through floating point on the other side are the same amount.
SAME_USD = Decimal("1e-9")

K = TypeVar("K", bound=Hashable)


class Measures(NamedTuple):
    """Counts (requests, tokens) and USD amounts of one cell of usage."""

    requests: Decimal
    prompt_tokens: Decimal
    completion_tokens: Decimal
    reasoning_tokens: Decimal
    cached_tokens: Decimal
    credits_usd: Decimal
    byok_usd: Decimal

    def plus(self, other: "Measures") -> "Measures":
        return Measures(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: "Measures") -> "Measures":
        return Measures(*(a - b for a, b in zip(self, other, strict=True)))

    def at_most(self, other: "Measures") -> "Measures":
        """Of each measure the smaller one."""
        return Measures(*(min(a, b) for a, b in zip(self, other, strict=True)))

    def is_nothing(self) -> bool:
        """No count, and no amount that floating point could not have made up."""
        return not any(self[:5]) and abs(self.credits_usd) < SAME_USD and abs(self.byok_usd) < SAME_USD

    def differs_from(self, other: "Measures") -> bool:
        return self != other and not self.minus(other).is_nothing()

    def is_below(self, other: "Measures", tolerance_usd: Decimal) -> bool:
        """Less money than `other`, or the same money for fewer requests (free models have nothing else to show)."""
        amounts = self.credits_usd - other.credits_usd, self.byok_usd - other.byok_usd
        if min(amounts) < -tolerance_usd:
            return True
        return max(amounts) <= tolerance_usd and self.requests < other.requests


NOTHING = Measures(*(Decimal(0) for _ in Measures._fields))
MEASURES = Measures._fields


def total(cells: Iterable[Measures]) -> Measures:
    """The sum; nothing for no cells."""
    result = NOTHING
    for cell in cells:
        result = result.plus(cell)
    return result


def grouped(cells: Iterable[tuple[K, Measures]]) -> dict[K, Measures]:
    """Cells of the same key, added up."""
    sums: dict[K, Measures] = {}
    for key, cell in cells:
        known = sums.get(key)
        sums[key] = cell if known is None else known.plus(cell)
    return sums


def differing(told: Mapping[K, Measures], stored: Mapping[K, Measures]) -> set[K]:
    """The keys whose cells are not the same in both, an absent cell being nothing."""
    return {key for key in told.keys() | stored.keys() if told.get(key, NOTHING).differs_from(stored.get(key, NOTHING))}
