"""What POST /analytics/query may ask: its vocabulary, and a body → a checked question, or 400 saying what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any

from orcost_pipeline.simulator.facts import HOUR, Usage, floor_hour
from orcost_pipeline.simulator.options import Options
from orcost_pipeline.simulator.wire import ApiError

COUNTS: dict[str, Callable[[Usage], int]] = {
    "request_count": attrgetter("requests"),
    "tokens_prompt": attrgetter("prompt_tokens"),
    "tokens_completion": attrgetter("completion_tokens"),
    "reasoning_tokens": attrgetter("reasoning_tokens"),
    "cached_tokens": attrgetter("cached_tokens"),
    "byok_request_count": attrgetter("byok_requests"),
}
MONEY: dict[str, Callable[[Usage], Decimal]] = {
    "total_usage": attrgetter("total_usd"),
    "credits_usage": attrgetter("credits_usd"),
    "byok_usage": attrgetter("byok_usd"),
    "usage_upstream": attrgetter("credits_usd"),
}
UNUSED = ("usage_cache", "usage_data", "usage_web", "usage_file", "byok_fees")
LONG_DIMENSIONS = ("api_key_id", "model", "user", "workspace", "app", "variant")
SHORT_DIMENSIONS = ("provider", "external_user", "origin", "country")
GRANULARITIES = ("minute", "hour", "day", "week", "month")
OPERATORS = {"eq": "scalar", "neq": "scalar", "in": "array", "not_in": "array"}
MAX_ROWS = 10_000
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass(frozen=True, slots=True)
class Filter:
    field: str
    operator: str
    values: tuple[Any, ...]
    include_unset: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A checked analytics query over [start, end); `granularity` None is one bucket without a time column."""

    metrics: tuple[str, ...]
    dimensions: tuple[str, ...]
    granularity: str | None
    start: datetime
    end: datetime
    filters: tuple[Filter, ...]
    order_by: tuple[str, bool] | None
    limit: int
    group_limit: int | None


def metrics_of(options: Options) -> list[str]:
    names = [*COUNTS, *MONEY, *UNUSED]
    return [name for name in names if name != "cached_tokens" or options.has_cached_tokens]


def parse(body: object, now: datetime, options: Options) -> Question:
    """`ApiError` 400 for what the API would refuse."""
    query = _object(body, "body")
    metrics = _names(query.get("metrics"), "metrics", metrics_of(options))
    _require(bool(metrics), "metrics must not be empty")
    dimensions = _names(query.get("dimensions", []), "dimensions", [*LONG_DIMENSIONS, *SHORT_DIMENSIONS])
    _require(len(dimensions) <= 2, "at most 2 dimensions")
    granularity = query.get("granularity")
    _require(granularity is None or granularity in GRANULARITIES, f"Unknown granularity: {granularity}")
    start, end = _window(query.get("time_range"), now)
    _check_window(granularity, dimensions, end - start, options)
    return Question(
        metrics,
        dimensions,
        granularity,
        _reach(granularity, start, now, options),
        _inclusive(end) if options.end_inclusive else end,
        tuple(_filter(one, options) for one in _array(query.get("filters", []), "filters", 20)),
        _order_by(query.get("order_by"), metrics, dimensions),
        _whole(query.get("limit", 1000), "limit", MAX_ROWS),
        _whole(query["group_limit"], "group_limit", MAX_ROWS) if "group_limit" in query else None,
    )


def _require(is_met: bool, message: str) -> None:
    if not is_met:
        raise ApiError(400, f"Invalid request parameters: {message}")


def _object(value: object, what: str, needs: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(needs) <= value.keys():
        raise ApiError(
            400, f"Invalid request parameters: {what} must be an object with {', '.join(needs) or 'metrics'}"
        )
    return value


def _array(value: object, what: str, most: int = 100) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ApiError(400, f"Invalid request parameters: {what} must be an array of at most {most}")
    return value


def _names(value: object, what: str, known: list[str]) -> tuple[str, ...]:
    names = _array(value, what)
    for name in names:
        _require(name in known, f"Unknown {what.rstrip('s')}: {name}")
    return tuple(names)


def _whole(value: object, what: str, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise ApiError(400, f"Invalid request parameters: {what} must be an integer between 1 and {high}")
    return value


def _instant(value: object) -> datetime:
    _require(isinstance(value, str) and bool(INSTANT.fullmatch(value)), f"Invalid datetime: {value}")
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise ApiError(400, f"Invalid request parameters: Invalid datetime: {value}") from None


def _window(value: object, now: datetime) -> tuple[datetime, datetime]:
    if value is None:
        return now - timedelta(days=7), now
    window = _object(value, "time_range", ("start", "end"))
    start, end = _instant(window["start"]), _instant(window["end"])
    _require(start < end, "time_range.start must be before time_range.end")
    return start, end


def _inclusive(end: datetime) -> datetime:
    return end + (HOUR if end == floor_hour(end) else timedelta(microseconds=1))


def _check_window(granularity: str | None, dimensions: tuple[str, ...], length: timedelta, options: Options) -> None:
    _require(length <= timedelta(days=365), "time range must not exceed 365 days")
    is_long_lived = not set(dimensions) & set(SHORT_DIMENSIONS)
    _require(is_long_lived or length <= timedelta(days=31), "this dimension is limited to 31 days")
    _require(granularity != "minute" or length <= 3 * HOUR, "minute granularity is limited to 3 hours")
    days = options.hour_window_days
    if granularity == "hour" and days is not None:
        _require(length <= timedelta(days=days), f"hour granularity is limited to windows of {days} days")


def _reach(granularity: str | None, start: datetime, now: datetime, options: Options) -> datetime:
    """The start that is served: how far back hours go, and days."""
    _require(
        start >= now - timedelta(days=options.day_reach_days), f"history is limited to {options.day_reach_days} days"
    )
    oldest = floor_hour(now) - timedelta(days=options.hour_reach_days)
    if granularity not in ("minute", "hour") or start >= oldest:
        return start
    _require(options.old_hours == "clip", f"hour granularity is limited to the last {options.hour_reach_days} days")
    return oldest


def _filter(one: object, options: Options) -> Filter:
    entry = _object(one, "each filter", ("field", "operator", "value"))
    field, operator, value = entry["field"], entry["operator"], entry["value"]
    _require(field in LONG_DIMENSIONS + SHORT_DIMENSIONS, f"Unknown filter field: {field}")
    _require(operator in OPERATORS, f"Unsupported operator: {operator}")
    is_array = OPERATORS[operator] == "array"
    _require(isinstance(value, list) == is_array, f"{operator} needs {'an array' if is_array else 'a scalar'}")
    include_unset = bool(entry.get("include_unset", False))
    _require(is_array or not include_unset, "include_unset applies to in and not_in only")
    values = tuple(value) if is_array else (value,)
    if options.max_filter_values is not None and len(values) > options.max_filter_values:
        raise ApiError(options.max_filter_status, f"Too many filter values (max {options.max_filter_values})")
    return Filter(field, operator, values, include_unset)


def _order_by(value: object, metrics: tuple[str, ...], dimensions: tuple[str, ...]) -> tuple[str, bool] | None:
    if value is None:
        return None
    order = _object(value, "order_by", ("field", "direction"))
    field, direction = order.get("field"), order.get("direction")
    known = (*metrics, *dimensions, "request_count", "date")
    _require(field in known and direction in ("asc", "desc"), "order_by needs a requested field and asc or desc")
    return str(field), direction == "desc"
