"""Hourly facts as loads are measured with: of 1,000 keys, hour by hour, the same each time."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from orcost_pipeline.measures import MEASURES

KEYS = ("hour", "account_id", "key_id", "model_id")
COLUMNS = (*KEYS, *MEASURES, "source")
ROWS_AN_HOUR, KEY_COUNT = 1_344, 1_000

Row = tuple[Any, ...]


def generated_rows(count: int, *, restated_each: int | None = None) -> list[Row]:
    """Rows of `COLUMNS`; each so many-th costs more than it did where `restated_each` is given."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        (
            first + number // ROWS_AN_HOUR * timedelta(hours=1),
            1,
            number % ROWS_AN_HOUR % KEY_COUNT + 1,
            number % ROWS_AN_HOUR // KEY_COUNT + 1,
            number % 90 + 1,
            number * 7 % 5_000,
            number * 3 % 900,
            0,
            number % 77,
            Decimal(number * 37 % 100_000 + (restated_each is not None and number % restated_each == 0)).scaleb(-9),
            0,
            "analytics",
        )
        for number in range(count)
    ]
