"""What the pipeline of dlt and the sequential client ask of analytics, and the rows they make of an answer."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

# How long before the last stored hour they read again: usage is told late.
LATE = timedelta(hours=2)
COUNTS = {
    "requests": "request_count",
    "prompt_tokens": "tokens_prompt",
    "completion_tokens": "tokens_completion",
    "reasoning_tokens": "reasoning_tokens",
    "cached_tokens": "cached_tokens",
}
MONEY = {"credits_usd": "credits_usage", "byok_usd": "byok_usage"}


def usage_question(key_hash: str, start: datetime, end: datetime) -> dict[str, Any]:
    """The body of a question for one key's usage by hour and model."""
    return {
        "metrics": [*COUNTS.values(), *MONEY.values()],
        "dimensions": ["model"],
        "granularity": "hour",
        "filters": [{"field": "api_key_id", "operator": "in", "value": [key_hash]}],
        "time_range": {"start": f"{start:%Y-%m-%dT%H:%M:%SZ}", "end": f"{end:%Y-%m-%dT%H:%M:%SZ}"},
        "limit": 10_000,
    }


def cell(key_hash: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of an answer, its amounts as Decimal."""
    counts = {name: int(row[metric]) for name, metric in COUNTS.items()}
    amounts = {name: Decimal(row[metric]) for name, metric in MONEY.items()}
    hour = datetime.fromisoformat(row["date__hour"]).replace(tzinfo=UTC)
    return {"hour": hour, "key_hash": key_hash, "model": row["model"], **counts, **amounts}
