"""One OpenRouter account over HTTP: authentication, time-outs, retry, rate limit, paging, splitting, redaction, errors.

What belongs here: one method an endpoint, each answering typed rows, whole or not at all. What stays out: what to ask
and when (`usage.py`), tables, Dagster. The key lives in one header of one client: in no URL, message, log or repr.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, OrcostError
from orcost_pipeline.openrouter.records import (
    METRICS,
    TOTAL_METRIC,
    ActivityRow,
    ApiKey,
    Credits,
    KeyInfo,
    Member,
    Model,
    R,
    UsageCell,
    Workspace,
    parse,
    parse_all,
    usage_cells,
)
from orcost_pipeline.openrouter.requests import NotFoundError, RefusedError, Requests, TooSlowError
from orcost_pipeline.windows import Window, hour_floor

log = logging.getLogger(__name__)

PAGE = 100
# The API's own ceiling for one answer; the default of 1000 would truncate sooner.
ROW_LIMIT = 10_000
_HASH = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class UsageAnswer:
    """Cells of one question, and the key hashes that OpenRouter could not resolve."""

    cells: list[UsageCell]
    unresolved: frozenset[str]


class OpenRouter(Requests):
    """An account's API, as an async context manager: one method an endpoint, each answering typed rows."""

    def __init__(self, account: str, api_key: SecretStr, base_url: str, **options: Any) -> None:
        super().__init__(account, api_key, base_url, **options)
        self._metrics = [*METRICS, TOTAL_METRIC]
        self._can_list_expired = True

    # ── what an account has ──────────────────────────────────────────────────────────────────────────────────────────

    async def key(self) -> KeyInfo:
        """The key that asks; raises InvalidKeyError where it is refused."""
        return parse(KeyInfo, _data(await self._get("key"), "GET /key"), "GET /key")

    async def credits(self) -> Credits:
        return parse(Credits, _data(await self._get("credits"), "GET /credits"), "GET /credits")

    async def models(self) -> list[Model]:
        return parse_all(Model, _data(await self._get("models"), "GET /models"), "GET /models")

    async def workspaces(self) -> list[Workspace]:
        return await self._counted_pages("workspaces", Workspace)

    async def members(self) -> list[Member]:
        """Members of the organization; none for a personal account (404)."""
        try:
            return await self._counted_pages("organization/members", Member)
        except NotFoundError:
            return []

    async def api_keys(self, workspace_ids: Sequence[str]) -> list[ApiKey]:
        """Every living key of every workspace, disabled and expired too, each hash once.

        Without any workspace, the keys that the account lists by default.
        """
        listings = await asyncio.gather(*(self._workspace_keys(id_) for id_ in workspace_ids or [None]))
        return list({key.hash: key for listing in listings for key in listing}.values())

    async def api_key(self, key_hash: str) -> ApiKey | None:
        """One key, or None when it is gone: the proof of a deletion."""
        try:
            return parse(ApiKey, _data(await self._get(f"keys/{key_hash}"), "GET /keys/{hash}"), "GET /keys/{hash}")
        except NotFoundError:
            return None

    # ── what it used ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def activity(self, key_hash: str | None = None) -> list[ActivityRow] | None:
        """The last 30 completed UTC days of the account or of one key, by model and endpoint; None for a 404."""
        params = {} if key_hash is None else {"api_key_hash": key_hash}
        try:
            return parse_all(ActivityRow, _data(await self._get("activity", params), "GET /activity"), "GET /activity")
        except NotFoundError:
            return None

    async def usage(self, window: Window, dimensions: Sequence[str], keys: Sequence[str] | None = None) -> UsageAnswer:
        """Hourly usage inside `window`, of `keys` (hashes) or of the whole account, whole: a truncated answer is
        asked again in smaller windows, then for fewer keys. Raises ContractError where one hour does not fit."""
        answers: list[UsageAnswer] = []
        start, size = window.start, (whole := window.end - window.start)
        while start < window.end:
            part = Window(start, min(hour_floor(start + size) if size < whole else window.end, window.end))
            asked = self._metrics
            try:
                answers.append(await self._usage_once(part, dimensions, keys))
                start = part.end
            except _NotWholeError as not_whole:
                # The smaller size is kept for the hours that follow: they are as dense as those before.
                halves = part.halves()
                if halves is None:
                    return await self._usage_of_fewer(window, dimensions, keys, not_whole.error)
                size = halves[0].end - halves[0].start
            except RefusedError as refused:
                if not await self._metrics_were_dropped(asked):
                    return await self._usage_of_fewer(window, dimensions, keys, refused)
        return _joined(answers)

    async def _usage_of_fewer(
        self, window: Window, dimensions: Sequence[str], keys: Sequence[str] | None, error: OrcostError
    ) -> UsageAnswer:
        """The same question for each half of the keys; raises `error` where there is nothing to halve."""
        if keys is None or len(keys) < 2:
            raise error
        middle = len(keys) // 2
        halves = (self.usage(window, dimensions, part) for part in (keys[:middle], keys[middle:]))
        return _joined(await asyncio.gather(*halves))

    async def _usage_once(self, window: Window, dimensions: Sequence[str], keys: Sequence[str] | None) -> UsageAnswer:
        """One analytics question; raises _NotWholeError where the answer misses rows or takes the server too long."""
        try:
            body = await self._analytics(window, dimensions, keys)
        except TooSlowError as error:
            raise _NotWholeError(error) from None
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise ContractError("POST /analytics/query answered no rows at data.data.")
        metadata, rows = body.get("metadata") or {}, body["data"]
        if metadata.get("truncated") or max(len(rows), int(metadata.get("row_count") or 0)) >= ROW_LIMIT:
            raise _NotWholeError(
                ContractError(
                    f'POST /analytics/query has more than {ROW_LIMIT} rows for one hour of account "{self.account}" '
                    f"({window.start:%Y-%m-%d %H:%M} UTC) and cannot be split further."
                )
            )
        # Whether the end of a range is inclusive is not documented: an hour belongs to the window that holds its start.
        first = hour_floor(window.start)
        cells = [cell for cell in usage_cells(rows, "POST /analytics/query") if first <= cell.hour < window.end]
        return UsageAnswer(cells, _unresolved(body.get("warnings"), keys or ()))

    async def _analytics(self, window: Window, dimensions: Sequence[str], keys: Sequence[str] | None) -> Any:
        question: dict[str, Any] = {
            "metrics": self._metrics,
            "dimensions": list(dimensions),
            "granularity": "hour",
            "time_range": {"start": _timestamp(window.start), "end": _timestamp(window.end)},
            "limit": ROW_LIMIT,
        }
        if keys is not None:
            question["filters"] = [{"field": "api_key_id", "operator": "in", "value": list(keys)}]
        return _data(await self._request("POST", "analytics/query", json=question), "POST /analytics/query")

    async def _metrics_were_dropped(self, asked: list[str]) -> bool:
        """Whether metrics that this account does not know were taken out of what the refused question asked."""
        meta = _data(await self._get("analytics/meta"), "GET /analytics/meta")
        known = {metric.get("name") for metric in meta.get("metrics", ())}
        kept = [metric for metric in asked if metric in known]
        if kept == asked or not {"request_count", "credits_usage", "byok_usage"} <= set(kept):
            return False
        log.info("account %s: analytics has no %s", self.account, sorted(set(asked) - set(kept)))
        self._metrics = kept
        return True

    # ── paging ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _workspace_keys(self, workspace_id: str | None) -> list[ApiKey]:
        """All pages of one workspace. A short page is the last; one that brings nothing new is a loop."""
        found: dict[str, ApiKey] = {}
        offset = 0
        while True:
            page = await self._key_page(workspace_id, offset)
            new = [key for key in page if key.hash not in found]
            found.update((key.hash, key) for key in page)
            if len(page) < PAGE:
                return list(found.values())
            if not new:
                raise ContractError(f"GET /keys answers the same keys again at offset {offset}, without end.")
            offset += len(page)

    async def _key_page(self, workspace_id: str | None, offset: int) -> list[ApiKey]:
        params = {"offset": str(offset), "include_disabled": "true"}
        if workspace_id is not None:
            params["workspace_id"] = workspace_id
        if self._can_list_expired:
            try:
                return await self._keys({**params, "include_expired": "true"})
            except RefusedError:
                self._can_list_expired = False
        return await self._keys(params)

    async def _keys(self, params: dict[str, str]) -> list[ApiKey]:
        return parse_all(ApiKey, _data(await self._get("keys", params), "GET /keys"), "GET /keys")

    async def _counted_pages(self, path: str, kind: type[R]) -> list[R]:
        """All pages of a listing that tells its `total_count`; where it tells none, until a page is not full."""
        found: list[R] = []
        while True:
            body = await self._get(path, {"offset": str(len(found)), "limit": str(PAGE)})
            page = parse_all(kind, _data(body, f"GET /{path}"), f"GET /{path}")
            found += page
            total = body.get("total_count")
            is_counted = isinstance(total, int)
            if len(found) >= total if is_counted else len(page) < PAGE:
                return found
            if not page:
                raise ContractError(f"GET /{path} promised {total} rows and ended after {len(found)}.")


class _NotWholeError(Exception):
    """An answer that must be asked for in smaller parts, and the error to raise where it has none."""

    def __init__(self, error: OrcostError) -> None:
        super().__init__(str(error))
        self.error = error


def _joined(answers: Sequence[UsageAnswer]) -> UsageAnswer:
    cells = [cell for answer in answers for cell in answer.cells]
    return UsageAnswer(cells, frozenset().union(*(answer.unresolved for answer in answers)))


def _data(body: Any, endpoint: str) -> Any:
    if "data" not in body:
        raise ContractError(f"{endpoint} answered no data.")
    return body["data"]


def _timestamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unresolved(warnings: Any, keys: Sequence[str]) -> frozenset[str]:
    """Those of `keys` that a warning names, in full or by a prefix."""
    named = [match for line in warnings or () for match in _HASH.findall(str(line))]
    return frozenset(key for key in keys if any(key.startswith(prefix) for prefix in named))
