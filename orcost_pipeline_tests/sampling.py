"""How much of a large test the fast tests run: some cases of a parametrized one, some examples of a property."""

from collections.abc import Iterable
from typing import Any

import pytest

# Every how many examples of a property the fast tests run one.
FEWER = 4
is_fast = False


def examples(count: int) -> int:
    """How many examples of a property are tried: all of them with the slow tests, fewer in the fast ones."""
    return max(count // FEWER, 2) if is_fast else count


def sampled(cases: Iterable[Any], fast: int) -> list[Any]:
    """All cases: `fast` of them, the first and others at equal distances, are in the fast tests, and the rest slow."""
    listed = list(cases)
    kept = {number * len(listed) // fast for number in range(fast)}
    return [case if number in kept else _slow(case) for number, case in enumerate(listed)]


def _slow(case: Any) -> Any:
    if hasattr(case, "marks"):
        return pytest.param(*case.values, marks=(*case.marks, pytest.mark.slow), id=case.id)
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
