"""Which parts of a full reading are due, so that all of it is read once a period, a little with each sync."""

from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")


def due(read_at: Mapping[T, datetime | None], now: datetime, period: timedelta) -> list[T]:
    """Returns the items to read now, those read longest ago first.

    `read_at` is when each item was last read; None, or an instant in the future, means never. Enough items are due for
    each to be read again within `period` at a steady pace: items that were read together are spread over the period.
    """

    def age(item: T) -> timedelta:
        read = read_at[item]
        return period if read is None or read > now else min(now - read, period)

    items: list[Any] = sorted(read_at, key=lambda item: (age(item), item))
    ages = [age(item) for item in items]
    # For each age, the fraction age / period of all items has to be younger; the largest shortfall is due.
    behind = max((len(items) * it // period - bisect_left(ages, it) for it in ages), default=0)
    return items[::-1][: max(behind, 0)]
