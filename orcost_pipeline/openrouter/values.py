"""One JSON value → one typed value, or ValueError: what can be read as it is meant, and nothing guessed (D45).

Belongs here: what a number, an instant, a text of OpenRouter may look like, and how large. Stays out: which field it is
(`records.py`). No reader works on a number before it knows its size: `int(Decimal("1e3000000"))` takes minutes.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

# No account has spent so much, no request has so many tokens, and no price so many decimals.
LARGEST = Decimal("1e15")
DECIMALS = 60
MOST_REQUESTS = 10**9
# Characters of a number; longer ones are kept as no number.
LONGEST_NUMBER = 1_000
# Characters of a text: it stands in an index of Postgres, which takes 2,704 bytes.
LONGEST_TEXT = 500
# OpenRouter began in 2023. What is said to have happened long before or after that did not.
HAPPENED_IN = range(2020, 2200)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# An epoch from here on is in milliseconds; in seconds it would be the year 5138.
MILLISECONDS_FROM = 10**11
_HASH = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


def whole_json(literal: str) -> int | Decimal:
    """A JSON number without a fraction; `json.loads` by itself refuses a whole answer for one of 5,000 digits."""
    return int(literal) if len(literal) <= LONGEST_NUMBER else Decimal("NaN")


def decimal_json(literal: str) -> Decimal:
    """A JSON number with its digits; one that no Decimal can hold is no number."""
    try:
        return Decimal(literal) if len(literal) <= LONGEST_NUMBER else Decimal("NaN")
    except InvalidOperation:
        return Decimal("NaN")


def optional(reader: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else reader(value)


def number(value: Any) -> Decimal:
    """A JSON number, or its text, with every digit."""
    told = _decimal(value)
    # A comparison looks at exponents first, and rounds nothing.
    if not told.is_finite() or not -LARGEST < told < LARGEST:
        raise ValueError("no number of a size that is possible")
    exponent = int(told.as_tuple().exponent)
    if told and exponent < -DECIMALS:
        raise ValueError("more decimals than are possible")
    return told if -DECIMALS <= exponent <= LARGEST.adjusted() else Decimal(0)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("no number")
    if isinstance(value, str) and (len(value) > LONGEST_NUMBER or "_" in value):
        raise ValueError("no number as JSON writes one")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise ValueError("no number") from None


def amount(value: Any) -> Decimal:
    """USD. An unused component is null, which is 0."""
    return Decimal(0) if value is None else number(value)


def count(value: Any) -> int:
    """A whole number; null is 0. A fraction is no count."""
    told = amount(value)
    if told != told.to_integral_value():
        raise ValueError("no whole number")
    return int(told)


def requests(value: Any) -> int:
    """A count of requests, of which a millionth of a dollar each is tolerated: no account makes a billion in a day."""
    told = count(value)
    if abs(told) >= MOST_REQUESTS:
        raise ValueError("more requests than are possible")
    return told


def limit(value: Any) -> Decimal | None:
    """USD, or None where there is no limit, for which some write infinity."""
    told = None if value is None else _decimal(value)
    return None if told is None or (told.is_infinite() and not told.is_signed()) else number(told)


def instant(value: Any) -> datetime:
    """An aware instant, UTC; a text without a zone is UTC. Numbers are seconds, or milliseconds, since 1970."""
    try:
        moment = _since_epoch(value) if not isinstance(value, str) else datetime.fromisoformat(value.strip().upper())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, TypeError):
        raise ValueError("no instant") from None
    if moment < _EPOCH:
        raise ValueError("an instant before 1970")
    return moment


def _since_epoch(value: Any) -> datetime:
    if value is None or not (told := number(value)):
        raise ValueError("no instant")
    return _EPOCH + timedelta(milliseconds=int(told if told >= MILLISECONDS_FROM else told * 1000))


def happened(value: Any) -> datetime:
    """The instant of something that happened."""
    moment = instant(value)
    if moment.year not in HAPPENED_IN:
        raise ValueError("an instant at which nothing happened")
    return moment


def day(value: Any) -> date:
    """A UTC day of usage; of an instant, its date as written."""
    return happened(value[:10] if isinstance(value, str) else value).date()


def text(value: Any) -> str:
    """Text, or a number as text; the beginning of one that is very long."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("no text")
    return str(value)[:LONGEST_TEXT]


def text_or_blank(value: Any) -> str:
    return "" if value is None else text(value)


def flag(value: Any) -> bool:
    """A truth value, also as 0 or 1 or as text."""
    told = str(value).lower() if isinstance(value, int | str) else ""
    if told not in ("true", "1", "false", "0"):
        raise ValueError("neither true nor false")
    return told in ("true", "1")


def fields(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def key_hash(value: Any) -> str:
    """The identity of a key: 64 hex digits, in lower case however they come."""
    told = text(value).strip().lower()
    if not _HASH.fullmatch(told):
        raise ValueError("no SHA-256 in hex")
    return told
