"""The seven measures that every usage and spend relation carries, under one name everywhere.

`credits_usd` is what OpenRouter charged, `byok_usd` what the customer's own provider account was charged (an estimate);
they are never added. Reasoning tokens are a part of completion tokens, cached tokens a part of prompt tokens.

Two sources of the same usage agree if they differ by no more than the configured tolerance plus the rounding of their
requests: `tolerated_usd`, in SQL `core.tolerated_usd` (D47).
"""

from collections.abc import Hashable, Iterable, Mapping
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import NamedTuple, TypeVar

# Amounts that differ by less are equal: OpenRouter computes them in floating point.
SAME_USD = Decimal("1e-9")
# Analytics cut each request's cost to a millionth of a dollar, counters do not.
ROUNDING_USD = Decimal("1e-6")
# Sums and products keep every digit; Python's own context rounds at 28.
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)

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
        """The exact sum of each measure."""
        return Measures(*map(EXACT.add, self, other))

    def minus(self, other: "Measures") -> "Measures":
        """The exact difference of each measure."""
        return Measures(*map(EXACT.subtract, self, other))

    def at_most(self, other: "Measures") -> "Measures":
        """The smaller value of each measure."""
        return Measures(*(min(a, b) for a, b in zip(self, other, strict=True)))

    def is_nothing(self) -> bool:
        """Whether all counts are 0 and all amounts below `SAME_USD`."""
        return not any(self[:5]) and abs(self.credits_usd) < SAME_USD and abs(self.byok_usd) < SAME_USD

    def differs_from(self, other: "Measures") -> bool:
        """Whether a count differs, or an amount by `SAME_USD` or more."""
        return self != other and not self.minus(other).is_nothing()

    def agrees(self, other: "Measures", tolerated: Decimal) -> bool:
        """Whether counts are equal and amounts differ by at most `tolerated` USD."""
        apart = self.minus(other)
        return not any(apart[:5]) and max(abs(apart.credits_usd), abs(apart.byok_usd)) <= tolerated

    def is_below(self, other: "Measures", tolerance_usd: Decimal) -> bool:
        """Whether it has less money than `other`, or the same money with fewer requests (as free models may)."""
        tolerated = tolerated_usd(max(self.requests, other.requests), tolerance_usd)
        amounts = self.credits_usd - other.credits_usd, self.byok_usd - other.byok_usd
        if min(amounts) < -tolerated:
            return True
        return max(amounts) <= tolerated and self.requests < other.requests


NOTHING = Measures(*(Decimal(0) for _ in Measures._fields))
MEASURES = Measures._fields


def total(cells: Iterable[Measures]) -> Measures:
    """The exact sum of the cells; `NOTHING` without cells."""
    result = NOTHING
    for cell in cells:
        result = result.plus(cell)
    return result


def grouped(cells: Iterable[tuple[K, Measures]]) -> dict[K, Measures]:
    """The exact sum of the cells of each key."""
    sums: dict[K, Measures] = {}
    for key, cell in cells:
        known = sums.get(key)
        sums[key] = cell if known is None else known.plus(cell)
    return sums


def tolerated_usd(requests: Decimal, tolerance_usd: Decimal) -> Decimal:
    """USD by which two sources of so many requests may differ and still agree."""
    return tolerance_usd + ROUNDING_USD * max(requests, Decimal(0))


def differing(reported: Mapping[K, Measures], stored: Mapping[K, Measures]) -> set[K]:
    """The keys whose cells differ between the two; an absent cell counts as 0."""
    return {
        key
        for key in reported.keys() | stored.keys()
        if reported.get(key, NOTHING).differs_from(stored.get(key, NOTHING))
    }


def disagreeing(
    reported: Mapping[K, Measures],
    other: Mapping[K, Measures],
    tolerance_usd: Decimal,
    requests: Mapping[K, Decimal] | None = None,
) -> set[K]:
    """The keys whose cells differ by more than the tolerance allows; an absent cell counts as 0.

    `requests` determines the tolerated rounding per key, needed where cells are differences; by default it is the
    larger number of requests of the two cells.
    """

    def agree(key: K) -> bool:
        one, another = reported.get(key, NOTHING), other.get(key, NOTHING)
        of = requests.get(key, Decimal(0)) if requests is not None else max(one.requests, another.requests)
        return one.agrees(another, tolerated_usd(of, tolerance_usd))

    return {key for key in differing(reported, other) if not agree(key)}
