"""A response of OpenRouter or of a gateway before it: its JSON, how long to wait, the error it means, its clock."""

import email.utils
import json
import math
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx

from orcost_pipeline.errors import TransientError
from orcost_pipeline.openrouter.api.failures import RetryLaterError, TooSlowError, UnreadableError
from orcost_pipeline.openrouter.api.values import MILLISECONDS_FROM, decimal_json, whole_json

# Postgres stores no NUL, and UTF-8 no lone surrogate, which a server leaves where it cuts a name by UTF-16 units.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
UNSTORABLE_ESCAPE = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
# Seconds: no cache keeps a response for longer than a year.
OLDEST_RESPONSE = 31_536_000


class Response(NamedTuple):
    """A response with its whole body."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def is_page(self) -> bool:
        """Whether the body is HTML: from a gateway, a firewall or a web site instead of the API."""
        return self.body[:1_000].lstrip().startswith(b"<")

    @property
    def json_object(self) -> dict[str, Any] | None:
        """The body as a JSON object, which the API uses even for refusals; None where it is anything else."""
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None


def passing_error(response: Response, where: str, now: datetime, *, is_analytics: bool) -> TransientError:
    """The TransientError for a status that a retry may overcome, with the wait that the server asks for.

    `where` begins its message; a 408 of analytics becomes a TooSlowError.
    """
    if response.status == 408 and is_analytics:
        return TooSlowError(f"{where}. The question takes OpenRouter too long.")
    seconds, is_limit = seconds_to_wait(response.headers, now), response.status == 429
    what = "OpenRouter's rate limit is reached" if is_limit else "OpenRouter has a server error"
    sentence = f"{where}. {what}; the next sync catches up."
    return RetryLaterError(sentence, seconds) if is_limit or seconds is not None else TransientError(sentence)


def redirect_target(response: Response) -> str:
    """The host that a redirect points to; its path may contain secrets and is left out."""
    try:
        host = httpx.URL(response.headers.get("Location", "")).host
    except httpx.InvalidURL:
        host = ""
    return f"a redirect to {host}" if host else "a redirect"


def json_body(response: Response, question: str) -> dict[str, Any]:
    """The body as a JSON object with exact numbers; NaN and infinity become such Decimals.

    Raises UnreadableError for HTML, for invalid JSON, and for JSON that is no object: retries may help.
    """
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
    """The value with unstorable characters replaced: one key's name must not stop the account's sync."""
    if isinstance(value, str):
        return UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(part) for part in value]
    return {_storable(name): _storable(part) for name, part in value.items()} if isinstance(value, dict) else value


def seconds_to_wait(headers: httpx.Headers, now: datetime) -> float | None:
    """The longer wait of `Retry-After` and `X-RateLimit-Reset`, in seconds by the server's clock where it has a date.

    0 where that time is over, None without either header.
    """
    now = http_date(headers.get("Date")) or now
    waits: list[float] = []
    if (seconds := header_number(headers.get("Retry-After"))) is not None:
        waits.append(seconds)
    elif (until := http_date(headers.get("Retry-After"))) is not None:
        waits.append((until - now).total_seconds())
    if (reset := header_number(headers.get("X-RateLimit-Reset"))) is not None:
        waits.append((reset / 1_000 if reset >= MILLISECONDS_FROM else reset) - now.timestamp())
    return max(0.0, *waits) if waits else None


def clock_ahead(headers: httpx.Headers, now: datetime) -> timedelta | None:
    """How far `now` is ahead of the `Date` of a response; None without a date, or with an `Age` that is no number.

    For a cached response with an `Age`, the date may be when it was made or when it was passed on; the one nearer to
    `now` is taken.
    """
    served_at, age = http_date(headers.get("Date")), header_number(headers.get("Age", "0"))
    if served_at is None or age is None or not math.isfinite(age):
        return None
    ahead = now - served_at
    return min(ahead, ahead - timedelta(seconds=min(max(age, 0), OLDEST_RESPONSE)), key=abs)


def header_number(text: str | None) -> float | None:
    """A number, including `nan` and `inf`; None for anything else, such as `1_0`, which Python would accept."""
    with suppress(ValueError):
        return None if "_" in (text or "") else float(text or "")
    return None


def http_date(value: str | None) -> datetime | None:
    """The instant (UTC) of an HTTP date; None where there is none."""
    with suppress(TypeError, ValueError, OverflowError):
        instant = email.utils.parsedate_to_datetime(value or "")
        # A date with the zone -0000 is parsed without a zone; it is UTC.
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    return None
