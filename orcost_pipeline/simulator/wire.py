"""JSON as OpenRouter writes it: exact money, instants, errors, and what one call knows. No endpoint lives here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx

from orcost_pipeline.simulator.ledger import Account, ApiKey, Ledger
from orcost_pipeline.simulator.options import Options

# json.dumps cannot write a Decimal: it goes in as a marked string and loses the quotes afterwards.
MARK = "\ue000"
MARKED = re.compile(r'"\\ue000([^"]+)"')


class ApiError(Exception):
    """An answer that is an error: `{"error": {"code", "message"}}` with the same status."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> httpx.Response:
        body = {"error": {"code": self.status, "message": self.message}}
        return json_response(body, status=self.status, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Call:
    """One authorized request. `key` is None for a management key; `now` is the instant of the answer."""

    ledger: Ledger
    account: Account
    key: ApiKey | None
    now: datetime
    options: Options
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    def whole(self, name: str, default: int, low: int, high: int | None = None) -> int:
        """A whole number among the parameters; `ApiError` 400 when it is none or out of [low, high]."""
        text = self.params.get(name) or str(default)
        if not re.fullmatch(r"-?\d{1,9}", text) or int(text) < low or (high is not None and int(text) > high):
            raise ApiError(400, f"Invalid request parameters: {name}")
        return int(text)


def to_json(payload: object, *, float_noise: bool = False) -> str:
    """JSON text in which a Decimal is a number with exactly its digits, or with IEEE noise in the last one."""

    def mark(value: object) -> str:
        if not isinstance(value, Decimal):
            raise TypeError(f"not JSON: {value!r}")
        return MARK + (_noisy(value) if float_noise else _plain(value))

    return MARKED.sub(r"\1", json.dumps(payload, default=mark))


def _plain(value: Decimal) -> str:
    """Exact, without trailing zeros: a JSON number has none."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def _noisy(value: Decimal) -> str:
    number = float(value)
    return repr(math.nextafter(number, math.inf)) if number else "0"


def json_response(
    payload: object, *, status: int = 200, headers: Mapping[str, str] | None = None, float_noise: bool = False
) -> httpx.Response:
    text = to_json(payload, float_noise=float_noise)
    return httpx.Response(status, headers={"Content-Type": "application/json", **(headers or {})}, content=text)


def instant_text(instant: datetime | None) -> str | None:
    """`2025-01-01T00:00:00.000Z`."""
    if instant is None:
        return None
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03d}Z"
