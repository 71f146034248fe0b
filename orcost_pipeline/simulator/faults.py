"""Named faults: what a gateway, a network or a busy server does to an answer. Nothing here knows the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import httpx

from orcost_pipeline.simulator.wire import ApiError, json_response

Kind = Literal[
    "401",
    "402",
    "403_html",
    "408",
    "429",
    "500",
    "502_html",
    "503",
    "cut_body",
    "cut_json_200",
    "drip",
    "garbled",
    "hang",
    "html_200",
    "refused",
    "repeated_page",
    "reset",
    "shifted_page",
    "truncated_flag",
    "workspaces_500",
]
Answer = Callable[[httpx.Request], httpx.Response]
BASE_PATH = "/api/v1"
HTML = "<html><head><title>Bad Gateway</title></head><body>cloudflare</body></html>"
HTML_STATUSES = {"html_200": 200, "403_html": 403, "502_html": 502}
MESSAGES = {
    "401": "User not found.",
    "402": "Insufficient credits",
    "408": "Operation timed out. Please try again later.",
    "429": "Rate limit exceeded",
    "500": "Internal Server Error",
    "503": "Service temporarily unavailable",
}
PLACES = {
    "repeated_page": "/keys",
    "shifted_page": "/keys",
    "truncated_flag": "/analytics/query",
    "workspaces_500": "/workspaces",
}
SHIFTS = {"repeated_page": -1, "shifted_page": 1}


class Hang(httpx.ReadTimeout):
    """No answer within `seconds`; the real port sleeps that long before it answers."""

    def __init__(self, message: str, *, request: httpx.Request, seconds: float) -> None:
        super().__init__(message, request=request)
        self.seconds = seconds


class Drip(Hang):
    """An answer that begins at once and is not whole before `seconds` have passed; the real port sends it in pieces."""


class CutBody(httpx.RemoteProtocolError):
    """Less of a body than its length promised; the real port sends half of it and hangs up."""


class Garbled(httpx.DecodingError):
    """A body that is not compressed although it says so; the real port says so."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    kind: what happens. `shifted_page`: a key of an earlier page is gone, so a later page begins one further on;
        `repeated_page`: a key was made, so it begins with one of the page before, and the last of its own is not on it.
    times: how many requests suffer; None is all of them.
    match: a path prefix below the base (`/analytics`), or a predicate on the request; where `kind` has a place of its
        own (`/keys`, `/analytics/query`, `/workspaces`), that is the default.
    skip: so many matching requests pass unharmed first.
    retry_after: seconds in a `Retry-After` header of 429 and 503; None sends no header.
    seconds: how long a hang or a drip lasts on the real port.
    """

    kind: Kind
    times: int | None = 1
    match: str | Callable[[httpx.Request], bool] = ""
    skip: int = 0
    retry_after: int | None = None
    seconds: float = 1.0

    def hits(self, request: httpx.Request) -> bool:
        """Whether this request is one that the fault is meant for."""
        if self.kind in SHIFTS and int(request.url.params.get("offset") or 0) == 0:
            return False
        if callable(self.match):
            return self.match(request)
        return request.url.path.startswith(BASE_PATH + (self.match or PLACES.get(self.kind, "")))


def suffer(fault: Fault, request: httpx.Request, answer: Answer) -> httpx.Response:
    """The spoilt answer, or the httpx error that a client sees when there is none."""
    if fault.kind in HTML_STATUSES:
        return httpx.Response(HTML_STATUSES[fault.kind], headers={"Content-Type": "text/html"}, content=HTML)
    if fault.kind in SHIFTS:
        return answer(_shifted(request, SHIFTS[fault.kind]))
    match fault.kind:
        case "cut_json_200":
            return _cut(answer(request))
        case "truncated_flag":
            return _truncated(answer(request))
        case "workspaces_500":
            return _error(fault, 500)
        case status if status in MESSAGES:
            return _error(fault, int(status))
    raise _no_answer(fault, request)


def _no_answer(fault: Fault, request: httpx.Request) -> httpx.RequestError:
    """What a client sees of an answer that does not come, or not whole."""
    match fault.kind:
        case "reset":
            return httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
        case "refused":
            return httpx.ConnectError("[Errno 111] Connection refused", request=request)
        case "cut_body":
            return CutBody("peer closed connection without sending complete message body", request=request)
        case "garbled":
            return Garbled("Error -3 while decompressing data: incorrect header check", request=request)
        case _:
            slow = Drip if fault.kind == "drip" else Hang
            return slow("The read operation timed out", request=request, seconds=fault.seconds)


def _error(fault: Fault, status: int) -> httpx.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return ApiError(status, MESSAGES[str(status)], headers).response()


def _shifted(request: httpx.Request, by: int) -> httpx.Request:
    offset = int(request.url.params["offset"]) + by
    url = request.url.copy_set_param("offset", offset)
    return httpx.Request(request.method, url, headers=request.headers, content=request.content)


def _cut(response: httpx.Response) -> httpx.Response:
    whole = response.content
    return httpx.Response(200, headers={"Content-Type": "application/json"}, content=whole[: len(whole) // 2])


def _truncated(response: httpx.Response) -> httpx.Response:
    """Half of the rows and the flag; an error stays the error it is."""
    if response.status_code != 200:
        return response
    body = json.loads(response.text, parse_float=Decimal)
    rows = body["data"]["data"]
    del rows[len(rows) // 2 :]
    body["data"]["metadata"] |= {"truncated": True, "row_count": len(rows)}
    return json_response(body)
