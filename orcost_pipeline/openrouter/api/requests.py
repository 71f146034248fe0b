"""One request to OpenRouter: authentication, time limits, retry, rate limit, redaction, the status as an error.

What belongs here: from a request to the JSON body of its response, or to an error. What stays out: which requests exist
(`client.py`), and network failures (`failures.py`). The key is held in one header of one client: it appears in no URL,
message, log or repr, and no redirect is followed.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypedDict, cast

import httpx
from pydantic import SecretStr
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate, SingleBucketFactory
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from orcost_pipeline.errors import (
    ClockError,
    ContractError,
    ForbiddenError,
    InvalidKeyError,
    OrcostError,
    PermanentError,
    TransientError,
)
from orcost_pipeline.openrouter.api.connection import CHECK_ADDRESS, checked_url, open_connection
from orcost_pipeline.openrouter.api.failures import (
    NotFoundError,
    RefusedError,
    RetryLaterError,
    TooSlowError,
    UnreadableError,
    unreached,
)
from orcost_pipeline.openrouter.api.responses import (
    Response,
    clock_ahead,
    json_body,
    passing_error,
    redirect_target,
)
from orcost_pipeline.windows import CLOCK_WRONG

# OpenRouter allows 64 a minute; the margin covers clocks and a restarted process.
ANALYTICS_PER_MINUTE = 60
# Seconds for a request and the whole of its answer: an analytics question may take the server about a minute.
TIMEOUT = 90.0
# Seconds without an answer after which a client gives up.
PATIENCE = 300.0
# The same where a person waits at a terminal.
PATIENCE_AT_A_TERMINAL = 3
# Requests at the same time.
CONCURRENCY = 8
# Seconds; the window of OpenRouter's limits is a minute. No pause is longer, nor longer than a fifth of the patience.
LONGEST_PAUSE = 60.0
# The first pause after a 429 whose headers do not say how long, in units of other first pauses.
FIRST_PAUSE_WITHOUT_A_HEADER = 16
# Bytes; the largest honest answer, 10,000 rows of analytics, is a fortieth of it.
LARGEST_ANSWER = 200_000_000
RETRIED_STATUSES = frozenset({408, 425, 429}) | frozenset(range(500, 600))
ANALYTICS = "analytics/query"


def utc_now() -> datetime:
    """This machine's clock, UTC."""
    return datetime.now(UTC)


def masked(key: str) -> str:
    """A key shortened to what identifies it; too little to use it."""
    return f"sk-or-v1-…{key[-4:]}" if len(key) > 24 else "…"


@dataclass
class _Question:
    """A request, whether it can be split, and the instant (loop clock) of its first attempt."""

    method: str
    path: str
    arguments: dict[str, Any]
    has_parts: bool = False
    asked_at: float | None = None

    @property
    def is_analytics(self) -> bool:
        return self.path == ANALYTICS

    def __str__(self) -> str:
        return f"{self.method} /{self.path}"


class RequestOptions(TypedDict, total=False):
    """The options of `Requests`, for those that pass them on."""

    key_env: str
    transport: httpx.AsyncBaseTransport | None
    analytics_per_minute: int
    timeout: float
    patience: float | None
    backoff: float
    largest_answer: int
    clock: Callable[[], datetime]


class Requests:
    """The requests of one account, as an async context manager: on exit it cancels pending requests and disconnects.

    `requests_made` counts every HTTP request, including retries and failures; `clock_ahead` is how far this machine's
    clock is ahead of the server's by the last response with a date, `last_error_status` the status of the last response
    that was not 2xx; each None where there was none.

    timeout: seconds for one request and its whole answer.
    patience: seconds, `PATIENCE` by default. A passing failure is retried until no request of this client has been
        answered for so long.
    backoff: seconds of a request's first pause; each further pause is twice as long.
    largest_answer: bytes; a larger answer is refused.
    key_env: the variable that holds the key, for error messages.
    clock: returns this machine's time, UTC.
    """

    def __init__(
        self,
        account: str,
        api_key: SecretStr,
        base_url: str,
        *,
        key_env: str = "OPENROUTER_API_KEY",
        transport: httpx.AsyncBaseTransport | None = None,
        analytics_per_minute: int = ANALYTICS_PER_MINUTE,
        timeout: float = TIMEOUT,
        patience: float | None = None,
        backoff: float = 0.5,
        largest_answer: int = LARGEST_ANSWER,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.account = account
        self.requests_made = 0
        self.clock_ahead: timedelta | None = None
        self.last_error_status: int | None = None
        self._clock = clock
        self._key_env = key_env
        self._secret = api_key.get_secret_value().strip()
        self._timeout = timeout
        self._patience = PATIENCE if patience is None else patience
        self._longest_pause = min(LONGEST_PAUSE, self._patience / 5)
        self._backoff = backoff
        self._largest_answer = largest_answer
        # Loop-clock instants: of the last answer (or first request), and until which no analytics request is sent.
        self._answered_at: float | None = None
        self._analytics_from = 0.0
        self._slots = asyncio.Semaphore(CONCURRENCY)
        # Without a leaker, which is a thread per client: the few hundred stamps of a sync need no clean-up.
        bucket = InMemoryBucket([Rate(analytics_per_minute, Duration.MINUTE)])
        self._analytics_rate = Limiter(SingleBucketFactory(bucket, schedule_leak=False))
        self._http = open_connection(checked_url(base_url, account), self._sendable_secret(), timeout, transport)
        self._is_closed = False
        self._under_way: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancels pending requests: after a failure nothing more is sent or counted."""
        self._is_closed = True
        for task in (under_way := tuple(self._under_way)):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._http.aclose()

    # ── before a request ─────────────────────────────────────────────────────────────────────────────────────────────

    def _sendable_secret(self) -> str:
        """The key; raises InvalidKeyError for one that no HTTP header can carry."""
        if not self._secret:
            raise self.invalid_key("is empty")
        if not self._secret.isascii() or not self._secret.isprintable():
            raise self.invalid_key(f"has characters that no key has ({self.masked_key()})")
        return self._secret

    @property
    def key_sha256(self) -> str:
        """The hash by which OpenRouter lists the key, in hex."""
        return hashlib.sha256(self._secret.encode()).hexdigest()

    def invalid_key(self, why: str | None = None) -> InvalidKeyError:
        """The error to raise for this account's key; `why` is a predicate, by default that it was refused with 401."""
        owned = f'the key of account "{self.account}"'
        what = f"{owned} {why}" if why else f"OpenRouter refused {owned} (401, {self.masked_key()})"
        return InvalidKeyError(
            f"Invalid API key: {what}.\nIt may be mistyped or revoked. Put a valid one in {self._key_env} "
            "(openrouter.ai/settings/management-keys), then: orcost sync"
        )

    # ── a request ────────────────────────────────────────────────────────────────────────────────────────────────────

    def of_account(self, question: str) -> str:
        """The question with its account, as messages name it."""
        return f'{question} of account "{self.account}"'

    async def get(self, path: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        """The JSON object that a GET returns. Raises as `send` does."""
        return await self.send("GET", path, params=params)

    async def send(self, method: str, path: str, *, has_parts: bool = False, **arguments: Any) -> dict[str, Any]:
        """The JSON object of a 2xx response, numbers exact; passing failures are retried while the patience lasts.

        has_parts: the request can be split, so one that takes the server too long is given up sooner. `arguments` are
        httpx's. Raises InvalidKeyError (401), ForbiddenError (403), NotFoundError (404), RefusedError (400, 413, 422),
        another PermanentError for other refusals, TransientError where patience ends, ContractError for responses that
        are too large or repeatedly not JSON.
        """
        question = _Question(method, path, arguments, has_parts)
        retrying = AsyncRetrying(
            stop=lambda state: self._should_stop(state, question),
            wait=lambda state: self._pause(state, question),
            retry=retry_if_exception_type(TransientError),
            reraise=True,
        )
        try:
            return await retrying(self._ask, question)
        except UnreadableError as error:
            attempts = retrying.statistics["attempt_number"]
            raise ContractError(f"{error} Attempts: {attempts}; nothing was published.") from None

    async def _ask(self, question: _Question) -> dict[str, Any]:
        """One attempt. Anything but a passing failure counts as an answer, including a refusal."""
        try:
            body = self._read(await self._send_in_turn(question), question)
        except TransientError:
            raise
        except OrcostError:
            self._answered_at = _loop_time()
            raise
        self._answered_at = _loop_time()
        return body

    async def _send_in_turn(self, question: _Question) -> Response:
        while True:
            if question.is_analytics:
                await self._until_analytics_admits()
                await self._analytics_rate.try_acquire_async(ANALYTICS)
            async with self._slots:
                if self._is_closed:
                    # Another request failed and ended the sync while this one waited for its turn.
                    raise asyncio.CancelledError
                # Another request may have hit the rate limit meanwhile.
                if question.is_analytics and self._analytics_from > _loop_time():
                    continue
                with self._counted(question):
                    return await self._exchange(question)

    async def _until_analytics_admits(self) -> None:
        """Waits as long as any analytics request was told to wait: the limit is per account."""
        while (seconds := self._analytics_from - _loop_time()) > 0:
            await asyncio.sleep(seconds + _jittered(self._backoff))

    @contextmanager
    def _counted(self, question: _Question) -> Iterator[None]:
        """Counts a pending request, which is cancelled when the client closes."""
        task, now = cast("asyncio.Task[Any]", asyncio.current_task()), _loop_time()
        question.asked_at = question.asked_at or now
        self._answered_at = self._answered_at or now
        self.requests_made += 1
        self._under_way.add(task)
        try:
            yield
        finally:
            self._under_way.discard(task)

    async def _exchange(self, question: _Question) -> Response:
        """The whole answer within the time limit, however slowly its bytes arrive."""
        method, path = question.method, question.path
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(method, path, follow_redirects=False, **question.arguments) as response,
            ):
                self._note_clocks(response.headers)
                if not response.is_success:
                    self.last_error_status = response.status_code
                return Response(response.status_code, response.headers, await self._body(response, question))
        except (httpx.HTTPError, TimeoutError) as error:
            what, host = self.of_account(str(question)), self._http.base_url.netloc.decode()
            raise unreached(what, host, error, self._timeout) from None

    def require_right_clock(self) -> datetime | None:
        """The server's time, UTC; None where no answer had a date.

        Raises ClockError where this machine's clock is off by more than `CLOCK_WRONG`.
        """
        if self.clock_ahead is None:
            return None
        here = self._clock()
        if abs(self.clock_ahead) > CLOCK_WRONG:
            raise ClockError.off(here, here - self.clock_ahead)
        return here - self.clock_ahead

    def _note_clocks(self, headers: httpx.Headers) -> None:
        ahead = clock_ahead(headers, self._clock())
        if ahead is not None:
            self.clock_ahead = ahead

    async def _body(self, response: httpx.Response, question: _Question) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._largest_answer:
                what = f"{self.of_account(str(question))} returned more than {self._largest_answer / 1_000_000:.0f} MB"
                raise ContractError(f"{what}, above the size limit; nothing was published.")
        return bytes(body)

    def _read(self, answer: Response, question: _Question) -> dict[str, Any]:
        if 200 <= answer.status < 300:
            return json_body(answer, self.of_account(str(question)))
        raise self._error(answer, question)

    # ── an error ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _error(self, answer: Response, question: _Question) -> OrcostError:
        """The status as an error named by its consequence."""
        status = answer.status
        where = f"{self.of_account(str(question))} answered {status}{self._server_message(answer)}"
        if status in RETRIED_STATUSES:
            return passing_error(answer, where, self._clock(), is_analytics="analytics" in question.path)
        if status == 401:
            return self.invalid_key()
        if status == 402:
            return PermanentError(
                f"{where}.\nThe account has no credits left: buy some at openrouter.ai/settings/credits, "
                "then: orcost sync"
            )
        if status == 403 and answer.json_object is None:
            return TransientError(f"{where}. That is a firewall or a proxy, not OpenRouter; the next sync asks again.")
        if status == 403:
            return ForbiddenError(f"{where}. The key may not ask this; a management key may.")
        if status in (400, 413, 422):
            return RefusedError(f"{where}. The API may have changed: see whether there is a newer orcost_pipeline.")
        if 300 <= status < 400:
            where += f": {redirect_target(answer).replace(self._secret, self.masked_key())}, where the key does not go"
        kind = NotFoundError if status == 404 and answer.json_object is not None else PermanentError
        return kind(f"{where}.\nIs {self._http.base_url} OpenRouter's API? {CHECK_ADDRESS}")

    def _server_message(self, answer: Response) -> str:
        """The server's own message, shortened and with keys masked; blank where it has none."""
        error = (answer.json_object or {}).get("error")
        if not isinstance(error, dict) or "message" not in error:
            return " with a page of HTML" if answer.is_page else ""
        line = " ".join(str(error["message"]).split())
        # Unprintable characters are removed first: they could hide a key from the mask.
        shown = "".join(character for character in line if character.isprintable())
        return f" ({shown.replace(self._secret, self.masked_key())[:200]})"

    def masked_key(self) -> str:
        """The key, shortened to what identifies it."""
        return masked(self._secret)

    # ── another attempt ──────────────────────────────────────────────────────────────────────────────────────────────

    def _should_stop(self, state: RetryCallState, question: _Question) -> bool:
        """Whether to give up: patience is over, or a request that can be split takes the server too long."""
        now, is_too_slow = _loop_time(), isinstance(_failure(state), TooSlowError)
        if is_too_slow and question.has_parts and now - (question.asked_at or now) >= self._longest_pause:
            return True
        return now - (self._answered_at or now) >= self._patience

    def _pause(self, state: RetryCallState, question: _Question) -> float:
        """Seconds to the next attempt: what the server asks for, up to the longest pause, and a growing random part."""
        error = _failure(state)
        requested = error.seconds if isinstance(error, RetryLaterError) else 0.0
        first, longest = self._backoff, self._longest_pause / 3
        if requested is None:
            first, longest = FIRST_PAUSE_WITHOUT_A_HEADER * self._backoff, self._longest_pause
        pause = _jittered(wait_exponential(multiplier=first, max=longest)(state))
        least = min(requested or 0.0, self._longest_pause)
        if question.is_analytics and isinstance(error, RetryLaterError):
            self._analytics_from = max(self._analytics_from, _loop_time() + (least or pause))
        return least + pause


def _loop_time() -> float:
    """Now, by the event loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


def _jittered(seconds: float) -> float:
    """A random part between half and all, so that requests refused together are not repeated together."""
    return random.uniform(seconds / 2, seconds)  # noqa: S311


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
