"""What an analytics answer says beside its rows: whether it is whole, when it was made, which keys are unresolved.

What belongs here: reading the parts of one body, joining answers. What stays out: rows (`records.py`), requests
(`analytics.py`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orcost_pipeline.openrouter.api import values
from orcost_pipeline.openrouter.api.records import UsageCell

_HASH = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class UsageAnswer:
    """The cells of one question, and the hashes of keys that OpenRouter could not resolve.

    reported_from: the first reported hour (or day), where analytics do not reach back to the start of the window.
    cached_at: for a cached answer, when the server made it (server clock).
    """

    cells: list[UsageCell]
    unresolved: frozenset[str]
    reported_from: datetime | None = None
    cached_at: datetime | None = None


def joined(answers: Sequence[UsageAnswer], reported_from: datetime | None = None) -> UsageAnswer:
    """The answers of a question that was asked in parts; `reported_from` is that of the whole."""
    cells = [cell for answer in answers for cell in answer.cells]
    starts = [start for start in (reported_from, *(answer.reported_from for answer in answers)) if start]
    made = [answer.cached_at for answer in answers if answer.cached_at]
    return UsageAnswer(
        cells,
        frozenset().union(*(answer.unresolved for answer in answers)),
        max(starts, default=None),
        min(made, default=None),
    )


def when_made(body: dict[str, Any]) -> datetime | None:
    """When the server made the answer, by its clock; None where it does not say."""
    try:
        return values.happened(body["cachedAt"])
    except (KeyError, ValueError):
        return None


def truncation(body: dict[str, Any], limit: int) -> tuple[bool, list[str]]:
    """Whether an analytics answer lacks rows, and the names of unreadable metadata, which are ignored.

    It does if it says so, if it has as many rows as the requested or reported limit, or fewer than it counts.
    """
    metadata, odd = body.get("metadata") or {}, []

    def read(name: str, reader: Callable[[Any], int]) -> int:
        try:
            value = values.fields(metadata).get(name)
            return 0 if value is None else reader(value)
        except ValueError:
            odd.append(name)
            return 0

    rows, row_count, cap = len(body["data"]), read("row_count", values.count), read("limit", values.count)
    limit = cap if 0 < cap < limit else limit
    return bool(read("truncated", values.flag)) or max(rows, row_count) >= limit or row_count > rows, odd


def unresolved_keys(warnings: Any, keys: Sequence[str]) -> frozenset[str]:
    """Those of `keys` that a warning names, in full or by a prefix."""
    lines = warnings if isinstance(warnings, list) else [warnings or ""]
    named = [match for line in lines for match in _HASH.findall(str(line))]
    return frozenset(key for key in keys if any(key.startswith(prefix) for prefix in named))
