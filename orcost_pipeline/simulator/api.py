"""The simulated API: one `Request → Response` handler for `httpx.MockTransport`, a respx side effect and a real port.

Belongs here: who may ask, which endpoint answers, the request log, rate limit and faults. Stays out: what they answer.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import ceil
from typing import Any, NamedTuple

import httpx

from orcost_pipeline.simulator import activity, analytics, listing
from orcost_pipeline.simulator.faults import BASE_PATH, Fault, suffer
from orcost_pipeline.simulator.ledger import Account, ApiKey, Ledger
from orcost_pipeline.simulator.options import Options
from orcost_pipeline.simulator.wire import ApiError, Call, json_response

ENDPOINTS: dict[tuple[str, str], Callable[[Call], dict[str, Any]]] = {
    ("GET", "/keys"): listing.list_keys,
    ("GET", "/workspaces"): listing.list_workspaces,
    ("GET", "/organization/members"): listing.list_members,
    ("GET", "/credits"): listing.account_credits,
    ("GET", "/activity"): activity.list_activity,
    ("GET", "/analytics/meta"): analytics.meta,
}
WINDOW_SECONDS = 60.0


class Asked(NamedTuple):
    """A request as the log keeps it: never its key. `path` is below `/api/v1`; `account` is None for a stranger."""

    method: str
    path: str
    params: dict[str, str]
    body: Any
    account: str | None


def wall_clock() -> datetime:
    return datetime.now(UTC)


class Simulator:
    """An OpenRouter that answers from a `Ledger` as of `clock()`.

    `options` may be replaced between requests. `requests` is the log. The rate limit counts real seconds
    (`monotonic`), not those of `clock`, so that a client told to wait gets on although the clock stands.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], datetime] = wall_clock,
        options: Options = Options(),  # noqa: B008 (frozen)
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.options = options
        self.requests: list[Asked] = []
        self._monotonic = monotonic
        self._faults: list[tuple[Fault, list[int]]] = []
        self._analytics_at: dict[str, deque[float]] = {}
        self._analytics_answers: dict[str, tuple[datetime, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Requests so far, the failed ones included."""
        with self._lock:
            return len(self.requests)

    def asked(self, path: str) -> list[Asked]:
        """The logged requests whose path begins like this: `/analytics`."""
        with self._lock:
            return [request for request in self.requests if request.path.startswith(path)]

    def forget_requests(self) -> None:
        with self._lock:
            self.requests.clear()

    def inject(self, *faults: Fault) -> None:
        """Adds faults; of several that hit a request, the one added first takes it."""
        with self._lock:
            self._faults.extend((fault, [0]) for fault in faults)

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def handle(self, request: httpx.Request) -> httpx.Response:
        """The answer, after logging and faults; raises httpx errors for a fault without an answer."""
        with self._lock:
            self.requests.append(self._entry(request))
            fault = self._due_fault(request)
        return self.answer(request) if fault is None else self._dated(suffer(fault, request, self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The answer without faults, unlogged."""
        if self.options.latency_seconds:
            time.sleep(self.options.latency_seconds)
        try:
            with self.ledger.lock:
                payload = self._routed(request)
        except ApiError as error:
            return self._dated(error.response())
        return self._dated(json_response(payload, float_noise=self.options.float_noise))

    def _dated(self, response: httpx.Response) -> httpx.Response:
        if self.options.has_date:
            response.headers["Date"] = format_datetime(self.clock(), usegmt=True)
        return response

    def _routed(self, request: httpx.Request) -> dict[str, Any]:
        path = _path(request)
        if (request.method, path) == ("GET", "/models"):
            return listing.list_models(self.ledger, self.options, request.url.params)
        call = self._call(request)
        if (request.method, path) == ("GET", "/key"):
            return listing.current_key(call)
        if call.key is not None:
            raise ApiError(403, "Only management keys can perform this operation")
        if path.startswith("/analytics/"):
            self._admit(call.account)
        if (request.method, path) == ("POST", "/analytics/query"):
            return self._cached(call)
        endpoint = ENDPOINTS.get((request.method, path))
        return endpoint(call) if endpoint else _by_id(call, request.method, path.strip("/").split("/"))

    def _call(self, request: httpx.Request) -> Call:
        now = self.clock()
        account, key = self._authorized(request, now)
        return Call(self.ledger, account, key, now, self.options, dict(request.url.params), _body(request))

    def _authorized(self, request: httpx.Request, now: datetime) -> tuple[Account, ApiKey | None]:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise ApiError(401, "Missing Authentication header")
        found = self._owner(secret.strip(), now)
        if found is None:
            raise ApiError(401, "User not found.")
        return found

    def _owner(self, secret: str, now: datetime) -> tuple[Account, ApiKey | None] | None:
        key_hash = hashlib.sha256(secret.encode()).hexdigest()
        for account in self.ledger.accounts.values():
            if secret == account.management_key:
                return account, None
            key = account.key_at(key_hash, now)
            if key is not None and key.deleted_at is None and not key.disabled and not _is_expired(key, now):
                return account, key
        return None

    def _admit(self, account: Account) -> None:
        """Counts an analytics request; `ApiError` 429 when there are too many, 403 or 404 when it is not offered."""
        if self.options.analytics_status is not None:
            raise ApiError(self.options.analytics_status, "Analytics is not available for this account")
        if self.options.analytics_per_minute is None:
            return
        left = self.options.analytics_per_minute - self.options.analytics_used_by_others
        with self._lock:
            moment, stamps = self._monotonic(), self._analytics_at.setdefault(account.name, deque())
            while stamps and stamps[0] <= moment - WINDOW_SECONDS:
                stamps.popleft()
            if len(stamps) >= left:
                wait = stamps[0] + WINDOW_SECONDS - moment if stamps else WINDOW_SECONDS
                raise ApiError(429, "Rate limit exceeded", self._limit_headers(wait))
            stamps.append(moment)

    def _cached(self, call: Call) -> dict[str, Any]:
        """The analytics answer: one made a moment ago where the question is the same and the options keep answers."""
        if not self.options.cache_seconds or not isinstance(call.body, dict):
            return analytics.query(call)
        same = {
            name: value for name, value in call.body.items() if name != "limit" or not self.options.cache_ignores_limit
        }
        question = json.dumps([call.account.name, same], sort_keys=True)
        made_at, answer = self._analytics_answers.get(question, (None, {}))
        if made_at is None or call.now - made_at >= timedelta(seconds=self.options.cache_seconds):
            answer = analytics.query(call)
            self._analytics_answers[question] = call.now, answer
        return answer

    def _limit_headers(self, wait: float) -> dict[str, str]:
        """What a 429 says that comes `wait` seconds before the next request is let in."""
        match self.options.limit_told_by:
            case "retry_after":
                return {"Retry-After": str(max(1, ceil(wait)))}
            case "nothing":
                return {}
        reset = (self.clock() + timedelta(seconds=wait)).timestamp()
        return {
            "X-RateLimit-Limit": str(self.options.analytics_per_minute),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(ceil(reset * 1_000)),
        }

    def _entry(self, request: httpx.Request) -> Asked:
        secret = request.headers.get("Authorization", "").partition(" ")[2].strip()
        owner = self._owner(secret, self.clock())
        body = _body(request)
        return Asked(request.method, _path(request), dict(request.url.params), body, owner[0].name if owner else None)

    def _due_fault(self, request: httpx.Request) -> Fault | None:
        for fault, seen in self._faults:
            if not fault.hits(request) or (fault.times is not None and seen[0] >= fault.skip + fault.times):
                continue
            seen[0] += 1
            if seen[0] > fault.skip:
                return fault
        return None


def _path(request: httpx.Request) -> str:
    return request.url.path.removeprefix(BASE_PATH)


def _body(request: httpx.Request) -> Any:
    """The JSON body; None when there is none or it is not JSON, which the endpoint refuses."""
    try:
        return json.loads(request.content) if request.content else None
    except ValueError:
        return None


def _is_expired(key: ApiKey, now: datetime) -> bool:
    return key.expires_at is not None and key.expires_at <= now


def _by_id(call: Call, method: str, parts: list[str]) -> dict[str, Any]:
    match method, parts:
        case "GET", ["keys", key_hash]:
            return listing.one_key(call, key_hash)
        case "GET", ["workspaces", workspace, "budgets"]:
            return listing.list_budgets(call, workspace)
        case _:
            raise ApiError(404, "Resource not found")
