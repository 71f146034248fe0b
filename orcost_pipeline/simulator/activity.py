"""GET /activity: one row per (UTC date, model, endpoint), the last 30 completed UTC days, today never."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from orcost_pipeline.simulator.facts import Cell, Usage
from orcost_pipeline.simulator.wire import ApiError, Call

DAYS = 30
Row = tuple[date, str, str, str, str | None]


def list_activity(call: Call) -> dict[str, Any]:
    """The newest day first. `api_key_hash`, `user_id`, `workspace_id` filter; `group_by=workspace` splits."""
    first, end = _window(call)
    wanted = _filters(call)
    split = _is_split(call)
    is_cut, sums_are_cut = call.options.activity_cut_usd, call.options.cut_sums_usd
    found: dict[Row, Usage] = {}
    for day, cells in call.account.facts.days(first, end, call.now, is_cut=is_cut and not sums_are_cut):
        for cell, usage in cells.items():
            if wanted(cell):
                row = (day, cell.model, cell.provider, cell.endpoint_id, cell.workspace_id if split else None)
                known = found.get(row)
                found[row] = usage if known is None else known + usage
    rows = sorted(found.items(), key=lambda item: (-item[0][0].toordinal(), *map(str, item[0][1:])))
    if is_cut and sums_are_cut:
        rows = [(row, used.cut(1, half_up=call.options.sums_half_up)) for row, used in rows]
    return {"data": [_row(call, row, used) for row, used in rows]}


def _window(call: Call) -> tuple[date, date]:
    today = call.now.date()
    first, end = today - timedelta(days=DAYS), today
    if "date" not in call.params:
        return first, end
    try:
        day = date.fromisoformat(call.params["date"])
    except ValueError:
        raise ApiError(400, "Date must be in YYYY-MM-DD format") from None
    if not first <= day < end:
        raise ApiError(400, "Date must be within the last 30 (completed) UTC days")
    return day, day + timedelta(days=1)


def _is_split(call: Call) -> bool:
    group_by = call.params.get("group_by")
    if group_by not in (None, "workspace"):
        raise ApiError(400, "Invalid request parameters: group_by")
    return group_by == "workspace"


def _filters(call: Call) -> Callable[[Cell], bool]:
    workspace_id, user_id = call.params.get("workspace_id"), call.params.get("user_id")
    if workspace_id is not None and call.account.workspace(workspace_id) is None:
        raise ApiError(404, "Workspace not found")
    key_hash = call.params.get("api_key_hash")
    is_silent = key_hash is not None and not _answers(call, key_hash)

    def wanted(cell: Cell) -> bool:
        return (
            not is_silent
            and (key_hash is None or cell.key_hash == key_hash)
            and (workspace_id is None or cell.workspace_id == workspace_id)
            and (user_id is None or _creator(call, cell) == user_id)
        )

    return wanted


def _answers(call: Call, key_hash: str) -> bool:
    """Whether this hash has rows; `ApiError` 404 where a deleted key's has none and says so."""
    key = call.account.key_at(key_hash, call.now)
    if key is not None and (key.deleted_at is None or call.options.deleted_activity == "rows"):
        return True
    if call.options.deleted_activity == "404":
        raise ApiError(404, "API key not found")
    return False


def _creator(call: Call, cell: Cell) -> str | None:
    key = call.account.key_at(cell.key_hash, call.now) if cell.key_hash else None
    return key.creator_user_id if key else None


def _row(call: Call, row: Row, usage: Usage) -> dict[str, Any]:
    day, model, provider, endpoint_id, workspace_id = row
    known = call.ledger.models.get(model)
    columns = {
        "date": day.isoformat(),
        "model": known.slug if known else model,
        "model_permaslug": model,
        "endpoint_id": endpoint_id,
        "provider_name": provider,
        "usage": usage.credits_usd,
        "byok_usage_inference": usage.byok_usd,
        "requests": usage.requests,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }
    if call.options.has_cached_tokens:
        columns["cached_tokens"] = usage.cached_tokens
    if workspace_id is not None:
        columns["workspace_id"] = workspace_id
    return columns | ({"a_field_of_tomorrow": {"depth": 1}} if call.options.extra_fields else {})
