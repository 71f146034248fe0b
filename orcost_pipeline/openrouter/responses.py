"""A response of OpenRouter, or of whoever answers in its place: its JSON, how long to wait, the error it means."""

import email.utils
import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx

from orcost_pipeline.errors import TransientError
from orcost_pipeline.openrouter.failures import RetryLaterError, TooSlowError, UnreadableError
from orcost_pipeline.openrouter.values import MILLISECONDS_FROM, decimal_json, whole_json

# Postgres takes no NUL, UTF-8 no half of a character, as a server leaves where it cuts a name by UTF-16 units.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
UNSTORABLE_ESCAPE = re.compile(rb"\\u(0000|[dD][89a-fA-F])")


class Response(NamedTuple):
    """Any response, read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def is_page(self) -> bool:
        """Whether it is a page of HTML: a gateway, a firewall or a web site speaks instead of the API."""
        return self.body[:1_000].lstrip().startswith(b"<")

    @property
    def json_object(self) -> dict[str, Any] | None:
        """The JSON object that the API says even a refusal in; None where somebody else speaks."""
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None


def passing_error(response: Response, where: str, now: datetime, *, is_analytics: bool) -> TransientError:
    """An error that may be gone when the question is asked again."""
    if response.status == 408 and is_analytics:
        return TooSlowError(f"{where}. The question takes OpenRouter too long.")
    seconds, is_limit = seconds_to_wait(response.headers, now), response.status == 429
    what = "OpenRouter's rate limit is reached" if is_limit else "OpenRouter has a server error"
    sentence = f"{where}. {what}; the next sync catches up."
    return RetryLaterError(sentence, seconds) if is_limit or seconds is not None else TransientError(sentence)


def redirect_target(response: Response) -> str:
    """Where a redirect points: the host alone, for a path may hold anything."""
    try:
        host = httpx.URL(response.headers.get("Location", "")).host
    except httpx.InvalidURL:
        host = ""
    return f"a redirect to {host}" if host else "a redirect"


def json_body(response: Response, question: str) -> Any:
    """The body with every number exact (one that is none is a Decimal that is none either); a gateway's HTML under a
    200 is a transient fault."""
    if response.is_page:
        what = "a page of HTML instead of JSON: a proxy or a log-in page stands in between"
        raise UnreadableError(f"{question} answered {response.status} with {what}.")
    try:
        text = response.body.decode(json.detect_encoding(response.body), "surrogatepass")
        body = json.loads(text, parse_int=whole_json, parse_float=decimal_json, parse_constant=decimal_json)
        if UNSTORABLE_ESCAPE.search(response.body) or UNSTORABLE.search(text):
            body = _storable(body)
    except (ValueError, RecursionError):
        raise UnreadableError(f"{question} answered {response.status} with a body that is not JSON.") from None
    if not isinstance(body, dict):
        raise UnreadableError(f"{question} answered {response.status} with JSON that is not an object.")
    return body


def _storable(value: Any) -> Any:
    """The value, its text without what nobody can store: one key's name must not stop the account."""
    if isinstance(value, str):
        return UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(part) for part in value]
    return {_storable(name): _storable(part) for name, part in value.items()} if isinstance(value, dict) else value


def seconds_to_wait(headers: httpx.Headers, now: datetime) -> float | None:
    """The longer of `Retry-After` and `X-RateLimit-Reset`, by the server's own clock where it tells it; 0 where that
    is over, None where it says nothing.
    """
    now = http_date(headers.get("Date")) or now
    told: list[float] = []
    if (seconds := header_number(headers.get("Retry-After"))) is not None:
        told.append(seconds)
    elif (until := http_date(headers.get("Retry-After"))) is not None:
        told.append((until - now).total_seconds())
    if (reset := header_number(headers.get("X-RateLimit-Reset"))) is not None:
        told.append((reset / 1_000 if reset >= MILLISECONDS_FROM else reset) - now.timestamp())
    return max(0.0, *told) if told else None


def header_number(text: str | None) -> float | None:
    """A number, `nan` and `inf` among them; Python's own reader would take `1_0` too."""
    with suppress(ValueError):
        return None if "_" in (text or "") else float(text or "")
    return None


def http_date(value: str | None) -> datetime | None:
    """The instant that a header names; None where it names none."""
    with suppress(TypeError, ValueError, OverflowError):
        told = email.utils.parsedate_to_datetime(value or "")
        # A date of zone -0000 comes without one: it is UTC too.
        return told.replace(tzinfo=UTC) if told.tzinfo is None else told
    return None
