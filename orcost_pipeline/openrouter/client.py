"""One OpenRouter account over HTTP: its endpoints, paging, splitting of what is too much for one answer.

What belongs here: one method an endpoint, each answering typed rows, whole or not at all. What stays out: what to ask
and when (`usage.py`), tables, Dagster. The key lives in one header of one client: in no URL, message, log or repr.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, OrcostError
from orcost_pipeline.openrouter.failures import NotFoundError, RefusedError, TooSlowError
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
from orcost_pipeline.openrouter.requests import ANALYTICS, Requests
from orcost_pipeline.windows import DAY, HOUR, Window, floor

log = logging.getLogger(__name__)

PAGE = 100
# A listing that goes on for longer never ends: it would be 100,000 rows.
PAGES = 1_000
# A listing that moves under way is walked again, so often; its keys are then those that any walk met.
WALKS = 3
# The API's own ceiling for one answer; the default of 1000 would truncate sooner.
ROW_LIMIT = 10_000
_GRANULARITY = {HOUR: "hour", DAY: "day"}
_HASH = re.compile(r"[0-9a-f]{8,64}")

Counted = TypeVar("Counted", Workspace, Member)


@dataclass(frozen=True)
class UsageAnswer:
    """Cells of one question, and the key hashes that OpenRouter could not resolve."""

    cells: list[UsageCell]
    unresolved: frozenset[str]


class _UsageQuestion(NamedTuple):
    """What is asked of analytics in a window: by what, of which keys (None: the whole account), by hour or by day."""

    dimensions: tuple[str, ...]
    keys: tuple[str, ...] | None
    grain: timedelta


class _Page(NamedTuple):
    """Rows of a listing by their identity, and how many it has in all, where it tells."""

    rows: list[tuple[str, Any]]
    total: int | None


class _Walk(NamedTuple):
    """Rows of one walk through a listing, whether any moved under way, and what was promised and did not come."""

    rows: dict[str, Any]
    has_moved: bool
    missing: str | None


PageAt = Callable[[int], Awaitable[_Page]]


class OpenRouter(Requests):
    """An account's API, as an async context manager: one method an endpoint, each answering typed rows."""

    def __init__(self, account: str, api_key: SecretStr, base_url: str, **options: Any) -> None:
        super().__init__(account, api_key, base_url, **options)
        self._metrics = [*METRICS, TOTAL_METRIC]
        self._can_list_expired = True

    # ── what an account has ──────────────────────────────────────────────────────────────────────────────────────────

    async def key(self) -> KeyInfo:
        """The key that asks; raises InvalidKeyError where it is refused."""
        return await self._one(KeyInfo, "key")

    async def itself(self) -> ApiKey:
        """The ordinary key that asks, as a listing would tell it: its hash is the SHA-256 of the key."""
        told = self._data(await self._get("key"), "GET /key")
        label = parse(KeyInfo, told, self._of_account("GET /key")).label
        identity = {"hash": hashlib.sha256(self._secret.encode()).hexdigest(), "name": label}
        return parse(ApiKey, {**told, **identity}, self._of_account("GET /key"))

    async def credits(self) -> Credits:
        return await self._one(Credits, "credits")

    async def models(self) -> list[Model]:
        return await self._all(Model, "models")

    async def workspaces(self) -> list[Workspace]:
        """Workspaces of the account; none where it has no such thing (404)."""
        try:
            return await self._counted_pages("workspaces", Workspace)
        except NotFoundError:
            return []

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
            return await self._one(ApiKey, f"keys/{key_hash}", "GET /keys/{hash}")
        except NotFoundError:
            return None

    # ── what it used ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def activity(self, key_hash: str | None = None) -> list[ActivityRow] | None:
        """The last 30 completed UTC days of the account or of one key, by model and endpoint; None for a 404."""
        try:
            return await self._all(ActivityRow, "activity", {} if key_hash is None else {"api_key_hash": key_hash})
        except NotFoundError:
            return None

    async def usage(
        self,
        window: Window,
        dimensions: Sequence[str],
        keys: Sequence[str] | None = None,
        *,
        grain: timedelta = HOUR,
    ) -> UsageAnswer:
        """Usage inside `window` by hour or by day, of `keys` (hashes) or of the whole account, whole: a truncated
        answer is asked again in smaller windows, then for fewer keys. Raises ContractError where one hour (or day)
        does not fit."""
        question = _UsageQuestion(tuple(dimensions), keys if keys is None else tuple(keys), grain)
        return await self._usage(window, question)

    async def _usage(self, window: Window, question: _UsageQuestion) -> UsageAnswer:
        answers: list[UsageAnswer] = []
        start, size = window.start, (whole := window.end - window.start)
        while start < window.end:
            part = Window(start, min(floor(start + size, question.grain) if size < whole else window.end, window.end))
            asked = self._metrics
            try:
                answers.append(await self._usage_once(part, question))
                start = part.end
            except _NotWholeError as not_whole:
                # The smaller size is kept for the hours that follow: they are as dense as those before.
                halves = part.halves(question.grain)
                if halves is None:
                    return await self._usage_of_fewer(window, question, not_whole.error)
                size = halves[0].end - halves[0].start
            except RefusedError as refused:
                if not await self._metrics_were_dropped(asked):
                    return await self._usage_of_fewer(window, question, refused)
        return _joined(answers)

    async def _usage_of_fewer(self, window: Window, question: _UsageQuestion, error: OrcostError) -> UsageAnswer:
        """The same question for each half of the keys; raises `error` where there is nothing to halve."""
        keys = question.keys
        if keys is None or len(keys) < 2:
            raise error
        middle = len(keys) // 2
        halves = (self._usage(window, question._replace(keys=part)) for part in (keys[:middle], keys[middle:]))
        return _joined(await asyncio.gather(*halves))

    async def _usage_once(self, window: Window, question: _UsageQuestion) -> UsageAnswer:
        """One analytics question; raises _NotWholeError where the answer misses rows or takes the server too long."""
        try:
            body = await self._analytics(window, question)
        except TooSlowError as error:
            raise _NotWholeError(error) from None
        asked = self._of_account("POST /analytics/query")
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise ContractError(f"{asked} answered no rows at data.data.")
        if _is_truncated(body, asked):
            raise _NotWholeError(
                ContractError(
                    f"{asked} has more than {ROW_LIMIT} rows for one {_GRANULARITY[question.grain]} "
                    f"({window.start:%Y-%m-%d %H:%M} UTC) "
                    "and cannot be split further; nothing was published."
                )
            )
        # Whether the end of a range is inclusive is not documented: an hour belongs to the window that holds its start.
        first = floor(window.start, question.grain)
        cells = [cell for cell in usage_cells(body["data"], asked) if first <= cell.at < window.end]
        return UsageAnswer(cells, _unresolved(body.get("warnings"), question.keys or ()))

    async def _analytics(self, window: Window, question: _UsageQuestion) -> Any:
        asked: dict[str, Any] = {
            "metrics": self._metrics,
            "dimensions": list(question.dimensions),
            "granularity": _GRANULARITY[question.grain],
            "time_range": {"start": _timestamp(window.start), "end": _timestamp(window.end)},
            "limit": ROW_LIMIT,
        }
        if question.keys is not None:
            asked["filters"] = [{"field": "api_key_id", "operator": "in", "value": list(question.keys)}]
        has_parts = len(question.keys or ()) > 1 or window.halves(question.grain) is not None
        body = await self._request("POST", ANALYTICS, has_parts=has_parts, json=asked)
        return self._data(body, f"POST /{ANALYTICS}")

    async def _metrics_were_dropped(self, asked: list[str]) -> bool:
        """Whether metrics that this account does not know were taken out of what the refused question asked."""
        meta = self._data(await self._get("analytics/meta"), "GET /analytics/meta")
        metrics = meta.get("metrics") if isinstance(meta, dict) else None
        known = {metric.get("name") for metric in metrics or () if isinstance(metric, dict)}
        kept = [metric for metric in asked if metric in known]
        if kept == asked or not {"request_count", "credits_usage", "byok_usage"} <= set(kept):
            return False
        log.info("account %s: analytics has no %s", self.account, sorted(set(asked) - set(kept)))
        self._metrics = kept
        return True

    # ── reading an answer ────────────────────────────────────────────────────────────────────────────────────────────

    def _data(self, body: dict[str, Any], endpoint: str) -> Any:
        if "data" not in body:
            raise ContractError(f"{self._of_account(endpoint)} answered no data.")
        return body["data"]

    async def _one(self, kind: type[R], path: str, endpoint: str | None = None) -> R:
        """The row at a path; `endpoint` is how a message names a path that holds an identity."""
        asked = endpoint or f"GET /{path}"
        return parse(kind, self._data(await self._get(path), asked), self._of_account(asked))

    async def _all(self, kind: type[R], path: str, params: dict[str, str] | None = None) -> list[R]:
        """All rows of an answer that has no pages."""
        asked = f"GET /{path}"
        return parse_all(kind, self._data(await self._get(path, params), asked), self._of_account(asked))

    # ── paging ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _workspace_keys(self, workspace_id: str | None) -> list[ApiKey]:
        async def page_at(offset: int) -> _Page:
            page = await self._key_page(workspace_id, offset)
            return _Page([(key.hash, key) for key in page], None)

        return await self._pages("GET /keys", page_at)

    async def _key_page(self, workspace_id: str | None, offset: int) -> list[ApiKey]:
        params = {"offset": str(offset), "include_disabled": "true"}
        if workspace_id is not None:
            params["workspace_id"] = workspace_id
        if self._can_list_expired:
            try:
                return await self._all(ApiKey, "keys", {**params, "include_expired": "true"})
            except RefusedError:
                self._can_list_expired = False
        return await self._all(ApiKey, "keys", params)

    async def _counted_pages(self, path: str, kind: type[Counted]) -> list[Counted]:
        """All pages of a listing that may tell its `total_count`."""

        async def page_at(offset: int) -> _Page:
            body = await self._get(path, {"offset": str(offset), "limit": str(PAGE)})
            rows = parse_all(kind, self._data(body, f"GET /{path}"), self._of_account(f"GET /{path}"))
            total = body.get("total_count")
            return _Page([(row.id, row) for row in rows], total if isinstance(total, int) else None)

        return await self._pages(f"GET /{path}", page_at)

    async def _pages(self, endpoint: str, page_at: PageAt) -> list[Any]:
        """All rows of a listing, each once, also where some are made or deleted while it is walked.

        Raises ContractError for a listing that does not end as it should.
        """
        met: dict[str, Any] = {}
        where = self._of_account(endpoint)
        for number in range(WALKS):
            walk = await _walk(page_at, where)
            met |= walk.rows
            if walk.missing and (not walk.has_moved or number == WALKS - 1):
                raise ContractError(f"{where} promised {walk.missing} and ended after {len(met)}.")
            if not walk.has_moved:
                return list(walk.rows.values())
        return list(met.values())


async def _walk(page_at: PageAt, where: str) -> _Walk:
    """Page after page, each from the last row of the one before: a page that does not begin with it has moved."""
    found: dict[str, Any] = {}
    has_moved = False
    for _ in range(PAGES):
        rows, total = await page_at(max(0, len(found) - 1))
        known = list(found)
        again = [identity for identity, _ in rows if identity in found]
        has_moved |= bool(known) and not (again == [identity for identity, _ in rows[:1]] == known[-1:])
        found.update(rows)
        goes_on = len(rows) >= PAGE if total is None else len(found) < total
        if not goes_on:
            return _Walk(found, has_moved, None)
        if len(found) == len(known):
            return _Walk(found, has_moved, "more rows" if total is None else f"{total} rows")
    raise ContractError(f"{where} goes on after {PAGES:,} pages ({len(found):,} rows); nothing was published.")


class _NotWholeError(Exception):
    """An answer that must be asked for in smaller parts, and the error to raise where it has none."""

    def __init__(self, error: OrcostError) -> None:
        super().__init__(str(error))
        self.error = error


def _joined(answers: Sequence[UsageAnswer]) -> UsageAnswer:
    cells = [cell for answer in answers for cell in answer.cells]
    return UsageAnswer(cells, frozenset().union(*(answer.unresolved for answer in answers)))


def _is_truncated(body: dict[str, Any], asked: str) -> bool:
    """Whether an analytics answer misses rows, by its own word or because it is as long as answers get."""
    metadata = body.get("metadata") or {}
    try:
        row_count = max(len(body["data"]), int(metadata.get("row_count") or 0))
        return bool(metadata.get("truncated")) or row_count >= ROW_LIMIT
    except (AttributeError, TypeError, ValueError):
        raise ContractError(f"{asked} answered metadata that cannot be read.") from None


def _timestamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unresolved(warnings: Any, keys: Sequence[str]) -> frozenset[str]:
    """Those of `keys` that a warning names, in full or by a prefix."""
    lines = warnings if isinstance(warnings, list) else [warnings or ""]
    named = [match for line in lines for match in _HASH.findall(str(line))]
    return frozenset(key for key in keys if any(key.startswith(prefix) for prefix in named))
