"""Why a request to OpenRouter failed: errors named by consequence, causes in plain words.

What belongs here: the errors of a request, and messages for what httpx raised or a gateway answered. What stays out:
retries (`requests.py`). No message repeats httpx's own text, which may contain a header and with it the key.
"""

import os
import re
import socket
import ssl
from collections.abc import Awaitable, Iterator
from typing import TypeVar

import httpx

from orcost_pipeline.errors import ForbiddenError, OrcostError, PermanentError, TransientError

T = TypeVar("T")


class NotFoundError(PermanentError):
    """A 404 from OpenRouter itself: the object does not exist, or this account does not have the endpoint."""


class RefusedError(PermanentError):
    """400, 413 or 422: the request itself was refused."""


class TooSlowError(TransientError):
    """408: the request takes the server too long; a smaller one may succeed."""


class RetryLaterError(TransientError):
    """The server asks to wait `seconds` before the next request; None where it does not say how long."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


class UnreadableError(TransientError):
    """A 2xx answer that is not JSON: a gateway's page, or a cut body."""


async def allowed(question: Awaitable[T]) -> T | None:
    """The result of a question; None where this key may not ask it (403) or the account has no such endpoint (404).

    Every other error is raised: it says nothing about what the key may see.
    """
    try:
        return await question
    except (ForbiddenError, NotFoundError):
        return None


def unreached(question: str, host: str, error: httpx.HTTPError | TimeoutError, seconds: float) -> OrcostError:
    """The error to raise where no answer came within `seconds`, or none at all.

    PermanentError for a refused certificate or a proxy's 4xx, TransientError otherwise.
    """
    what = f"{question}: {host} {_cause(error, seconds)}"
    if any(isinstance(root, ssl.SSLCertVerificationError) for root in _roots(error)):
        return PermanentError(
            f"{what}.\nBehind a company's proxy, name its certificate authority in SSL_CERT_FILE; "
            "otherwise check this machine's clock and OPENROUTER_BASE_URL."
        )
    if isinstance(error, httpx.ProxyError) and re.match(r"4\d\d\b", str(error)):
        return PermanentError(f"{what}.\nCheck HTTPS_PROXY and NO_PROXY; the proxy must let {host} through.")
    return TransientError(f"{what}. OpenRouter or the network is down; the next sync catches up.")


def _cause(error: httpx.HTTPError | TimeoutError, seconds: float) -> str:
    """What the other side did, as the predicate of a sentence."""
    match error:
        case httpx.ConnectTimeout():
            return "could not be reached (no connection in time)"
        case TimeoutError() | httpx.TimeoutException():
            return f"did not answer within {seconds:g} s"
        case httpx.ConnectError():
            return f"could not be reached ({_root_cause(error)})"
        case httpx.ProxyError():
            return f"could not be reached through the proxy{_proxy_status(error)}"
        case httpx.RemoteProtocolError() if "peer closed" in str(error):
            return "closed the connection in the middle of its answer"
        case httpx.NetworkError():
            return "closed the connection"
        case httpx.RemoteProtocolError() if "disconnected" in str(error):
            return "closed the connection"
        case httpx.RemoteProtocolError():
            return "sent an invalid HTTP response"
        case httpx.DecodingError():
            return "answered what cannot be decoded"
        case _:
            return f"could not be asked ({type(error).__name__})"


def _root_cause(error: Exception) -> str:
    """The first underlying error of a failed connection that names a cause."""
    for root in _roots(error):
        match root:
            case ssl.SSLCertVerificationError():
                return f"its certificate was refused: {root.verify_message}"
            case ssl.SSLError():
                return f"TLS: {(root.reason or 'no handshake').lower().replace('_', ' ')}"
            case socket.gaierror():
                return "no address is known for this name"
            case OSError() if root.errno:
                # asyncio puts an address of its own into `strerror`.
                return os.strerror(root.errno).lower()
    return "no connection"


def _roots(error: BaseException) -> Iterator[BaseException]:
    """The error and all its causes, including members of exception groups."""
    yield error
    for inner in (*getattr(error, "exceptions", ()), error.__cause__ or error.__context__):
        if inner is not None:
            yield from _roots(inner)


def _proxy_status(error: httpx.ProxyError) -> str:
    status = re.match(r"\d{3}\b", str(error))
    return f" ({status[0]})" if status else ""
