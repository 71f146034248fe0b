"""One request to OpenRouter: authentication, time-outs, retry, rate limit, redaction, errors named by consequence.

What belongs here: from a question to the JSON body of its answer, or to an error. What stays out: which questions there
are (`client.py`). The key lives in one header of one client: in no URL, message, log or repr.
"""

import asyncio
import email.utils
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self

import httpx
from pydantic import SecretStr
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate, SingleBucketFactory
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from orcost_pipeline.errors import (
    ContractError,
    ForbiddenError,
    InvalidKeyError,
    OrcostError,
    PermanentError,
    TransientError,
)

# OpenRouter allows 64 a minute; the margin covers clocks and a restarted process.
ANALYTICS_PER_MINUTE = 60
ATTEMPTS = 6
LONGEST_WAIT = 90.0
RETRIED_STATUSES = frozenset({408, 425, 429}) | frozenset(range(500, 600))


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


class Requests:
    """An account's requests. `requests_made` counts every HTTP request sent, retries too."""

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
        self._secret = api_key.get_secret_value().strip()
        self._backoff = backoff
        self._slots = asyncio.Semaphore(concurrency)
        # Without a leaker, which would be a thread for each client: a sync's few hundred stamps need no sweeping.
        bucket = InMemoryBucket([Rate(analytics_per_minute, Duration.MINUTE)])
        self._analytics_rate = Limiter(SingleBucketFactory(bucket, schedule_leak=False))
        self._http = httpx.AsyncClient(
            base_url=self._checked_url(base_url),
            headers={"Authorization": f"Bearer {self._sendable_secret()}", "Accept": "application/json"},
            timeout=httpx.Timeout(60.0, connect=10.0),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(account={self.account!r})"

    def _checked_url(self, base_url: str) -> str:
        try:
            url = httpx.URL(base_url.rstrip("/") + "/")
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise PermanentError(
                f'The base URL of account "{self.account}" is none: {base_url!r}. '
                "Check OPENROUTER_BASE_URL, or base_url in orcost.toml."
            )
        return str(url)

    def _sendable_secret(self) -> str:
        """The key, where a header can carry it; what cannot be sent cannot be valid."""
        if not self._secret.isascii() or not self._secret.isprintable():
            raise self._invalid_key("not sent: it has characters that no key has")
        return self._secret

    def _invalid_key(self, why: str) -> InvalidKeyError:
        return InvalidKeyError(
            f'Invalid API key: OpenRouter refused the key of account "{self.account}" ({why}, {self._masked()}). '
            "It may be mistyped or revoked; put a valid one in its place (see openrouter.ai/settings/keys), "
            "then sync again."
        )

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
            return self._invalid_key("401")
        if status == 403:
            return ForbiddenError(f"{where}. The key may not ask this; a management key may.")
        if status == 404:
            return NotFoundError(f"{where}.")
        if status in RETRIED_STATUSES:
            if status == 408 and "analytics" in question:
                return TooSlowError(f"{where}.")
            seconds = _retry_after(response)
            if seconds is not None:
                return RetryLaterError(f"{where}.", seconds)
            return TransientError(f"{where}.")
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
