"""One OpenRouter account over HTTP: authentication, time-outs, retry, rate limit, paging, splitting, redaction, errors.

What belongs here: one method an endpoint, each answering typed rows, whole or not at all. What stays out: what to ask
and when (`usage.py`), tables, Dagster. The key lives in one header of one client: in no URL, message, log or repr.
"""

import asyncio
import email.utils
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self

import httpx
from pydantic import SecretStr
from pyrate_limiter import Duration, Limiter, Rate
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from orcost_pipeline.errors import (
    ContractError,
    ForbiddenError,
    InvalidKeyError,
    OrcostError,
    PermanentError,
    TransientError,
)
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
from orcost_pipeline.windows import Window, hour_floor

log = logging.getLogger(__name__)

PAGE = 100
# The API's own ceiling for one answer; the default of 1000 would truncate sooner.
ROW_LIMIT = 10_000
# OpenRouter allows 64 a minute; the margin covers clocks and a restarted process.
ANALYTICS_PER_MINUTE = 60
ATTEMPTS = 6
LONGEST_WAIT = 90.0
RETRIED_STATUSES = frozenset({408, 425, 429}) | frozenset(range(500, 600))
_HASH = re.compile(r"[0-9a-f]{8,64}")


class NotFoundError(PermanentError):
    """404: the thing is not there, or this account does not have the endpoint."""


class RefusedError(PermanentError):
    """400, 413 or 422: the question itself was refused."""


class TooSlowError(TransientError):
    """408: the question takes the server too long; a smaller one may not."""


class RetryLaterError(TransientError):
    """The server named the time to wait, in seconds."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class UsageAnswer:
    """Cells of one question, and the key hashes that OpenRouter could not resolve."""

    cells: list[UsageCell]
    unresolved: frozenset[str]


class OpenRouter:
    """An account's API, as an async context manager. `requests_made` counts every HTTP request sent, retries too."""

    def __init__(
        self,
        account: str,
        api_key: SecretStr,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        concurrency: int = 8,
        analytics_per_minute: int = ANALYTICS_PER_MINUTE,
        backoff: float = 0.5,
    ) -> None:
        self.account = account
        self.requests_made = 0
        self._secret = api_key.get_secret_value()
        self._backoff = backoff
        self._slots = asyncio.Semaphore(concurrency)
        self._analytics_rate = Limiter(Rate(analytics_per_minute, Duration.MINUTE))
        self._metrics = [*METRICS, TOTAL_METRIC]
        self._can_list_expired = True
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {self._secret}", "Accept": "application/json"},
            timeout=httpx.Timeout(60.0, connect=10.0),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def __repr__(self) -> str:
        return f"OpenRouter(account={self.account!r})"

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
        start, size = window.start, window.end - window.start
        while start < window.end:
            part = Window(start, min(start + size, window.end))
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
                if not await self._metrics_were_dropped():
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

    async def _metrics_were_dropped(self) -> bool:
        """Whether metrics that this account does not know were taken out of the question, after it was refused."""
        meta = _data(await self._get("analytics/meta"), "GET /analytics/meta")
        known = {metric.get("name") for metric in meta.get("metrics", ())}
        kept = [metric for metric in self._metrics if metric in known]
        if kept == self._metrics or not {"request_count", "credits_usage", "byok_usage"} <= set(kept):
            return False
        log.info("account %s: analytics has no %s", self.account, sorted(set(self._metrics) - set(kept)))
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
        """All pages of a listing that tells its `total_count`."""
        found: list[R] = []
        while True:
            body = await self._get(path, {"offset": str(len(found)), "limit": str(PAGE)})
            page = parse_all(kind, _data(body, f"GET /{path}"), f"GET /{path}")
            found += page
            if len(found) >= body.get("total_count", len(found)):
                return found
            if not page:
                raise ContractError(f"GET /{path} promised {body['total_count']} rows and ended after {len(found)}.")

    # ── one request ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _get(self, path: str, params: dict[str, str] | None = None) -> Any:
        return await self._request("GET", path, params=params)

    async def _request(self, method: str, path: str, **arguments: Any) -> Any:
        """The JSON body of a 2xx answer. Transient faults are tried again with jitter, `Retry-After` honoured."""
        retrying = AsyncRetrying(
            stop=_stop,
            wait=self._wait,
            retry=retry_if_exception_type(TransientError),
            reraise=True,
        )
        try:
            return await retrying(self._send, method, path, arguments)
        except _UnreadableError as error:
            raise ContractError(f"{error} It did so {ATTEMPTS} times; nothing was published.") from None

    async def _send(self, method: str, path: str, arguments: dict[str, Any]) -> Any:
        if path == "analytics/query":
            await self._analytics_rate.try_acquire_async(path)
        async with self._slots:
            self.requests_made += 1
            try:
                response = await self._http.request(method, path, **arguments)
            except httpx.HTTPError as error:
                kind = type(error).__name__
                raise TransientError(
                    f'{method} /{path} of account "{self.account}" could not be asked ({kind}). '
                    "OpenRouter or the network is down; the next sync catches up."
                ) from None
        if response.is_success:
            return _json(response, f"{method} /{path}")
        raise self._error(response, f"{method} /{path}")

    def _error(self, response: httpx.Response, question: str) -> OrcostError:
        """The status as an error named by its consequence."""
        status, told = response.status_code, self._told(response)
        where = f'{question} of account "{self.account}" answered {status}{told}'
        if status == 401:
            return InvalidKeyError(
                f'Invalid API key: OpenRouter refused the key of account "{self.account}" (401, {self._masked()}). '
                "It may be mistyped or revoked; put a valid one in its place (see openrouter.ai/settings/keys), "
                "then sync again."
            )
        if status == 403:
            return ForbiddenError(f"{where}. The key may not ask this; a management key may.")
        if status == 404:
            return NotFoundError(f"{where}.")
        if status in RETRIED_STATUSES:
            seconds = _retry_after(response)
            if seconds is not None:
                return RetryLaterError(f"{where}.", seconds)
            is_too_slow = status == 408 and "analytics" in question
            return TooSlowError(f"{where}.") if is_too_slow else TransientError(f"{where}.")
        return RefusedError(f"{where}.") if status in (400, 413, 422) else PermanentError(f"{where}.")

    def _told(self, response: httpx.Response) -> str:
        """The server's own message, short, without any key that it may repeat."""
        try:
            message = str(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            return ""
        return f" ({message.replace(self._secret, self._masked())[:200]})"

    def _masked(self) -> str:
        """Enough of the key to tell it from another one; too little to use it."""
        return f"sk-or-v1-…{self._secret[-4:]}" if len(self._secret) > 24 else "…"

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RetryLaterError):
            return min(error.seconds, LONGEST_WAIT)
        return wait_random_exponential(multiplier=self._backoff, max=20)(state)


class _NotWholeError(Exception):
    """An answer that must be asked for in smaller parts, and the error to raise where it has none."""

    def __init__(self, error: OrcostError) -> None:
        super().__init__(str(error))
        self.error = error


class _UnreadableError(TransientError):
    """A 2xx answer that is no JSON: a gateway's page, or a cut body."""


def _json(response: httpx.Response, question: str) -> Any:
    """The body with every number exact; a gateway's HTML under a 200 is a transient fault."""
    try:
        body = json.loads(response.text, parse_float=Decimal, parse_constant=_refuse_constant)
    except ValueError:
        raise _UnreadableError(f"{question} answered {response.status_code} with a body that is no JSON.") from None
    if not isinstance(body, dict):
        raise _UnreadableError(f"{question} answered {response.status_code} with JSON that is no object.")
    return body


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _data(body: Any, endpoint: str) -> Any:
    if "data" not in body:
        raise ContractError(f"{endpoint} answered no data.")
    return body["data"]


def _joined(answers: Sequence[UsageAnswer]) -> UsageAnswer:
    cells = [cell for answer in answers for cell in answer.cells]
    return UsageAnswer(cells, frozenset().union(*(answer.unresolved for answer in answers)))


def _stop(state: RetryCallState) -> bool:
    """A question that is too slow is asked twice, then in smaller parts; anything else `ATTEMPTS` times."""
    error = state.outcome.exception() if state.outcome else None
    return state.attempt_number >= (2 if isinstance(error, TooSlowError) else ATTEMPTS)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of `Retry-After`, which may also be an HTTP date."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _timestamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unresolved(warnings: Any, keys: Sequence[str]) -> frozenset[str]:
    """Those of `keys` that a warning names, in full or by a prefix."""
    named = [match for line in warnings or () for match in _HASH.findall(str(line))]
    return frozenset(key for key in keys if any(key.startswith(prefix) for prefix in named))
