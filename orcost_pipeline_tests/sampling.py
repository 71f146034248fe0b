"""Cases of parametrized tests of which the fast tests run some."""

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], fast: int) -> list[Any]:
    """All cases: `fast` of them, the first and others at equal distances, are in the fast tests, and the rest slow."""
    listed = list(cases)
    kept = {number * len(listed) // fast for number in range(fast)}
    return [case if number in kept else _slow(case) for number, case in enumerate(listed)]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
