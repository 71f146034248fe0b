"""One JSON value → one typed value. Every reader raises ValueError for what it cannot read, and guesses nothing (D45).

What belongs here: the accepted forms and sizes of OpenRouter's numbers, instants and texts. What stays out: which field
it is (`records.py`). Readers check the size of a number before they compute with it: `int(Decimal("1e3000000"))` takes
minutes.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, TypeVar

# Above any real spend or token count; DECIMALS is above those of any real price.
LARGEST = Decimal("1e15")
DECIMALS = 60
MOST_REQUESTS = 10**9
# Characters of a number; longer ones become NaN.
LONGEST_NUMBER = 1_000
# Characters of a text: it is part of a Postgres index, whose entries hold at most 2,704 bytes.
LONGEST_TEXT = 500
# Years of possible events: OpenRouter began in 2023.
HAPPENED_IN = range(2020, 2200)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# From here on an epoch is in milliseconds; in seconds it would be the year 5138.
MILLISECONDS_FROM = 10**11
_HASH = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


def whole_json(literal: str) -> int | Decimal:
    """A JSON integer; NaN for one too long, for which `json.loads` by itself would refuse the whole answer."""
    return int(literal) if len(literal) <= LONGEST_NUMBER else Decimal("NaN")


def decimal_json(literal: str) -> Decimal:
    """A JSON number with every digit; NaN where a Decimal cannot hold it."""
    try:
        return Decimal(literal) if len(literal) <= LONGEST_NUMBER else Decimal("NaN")
    except InvalidOperation:
        return Decimal("NaN")


def optional(reader: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """The reader, with null read as None."""
    return lambda value: None if value is None else reader(value)


def number(value: Any) -> Decimal:
    """A finite JSON number, or its text, with every digit; ValueError beyond `LARGEST` or `DECIMALS`."""
    parsed = _decimal(value)
    # Comparisons look at exponents first and do not round.
    if not parsed.is_finite() or not -LARGEST < parsed < LARGEST:
        raise ValueError("no number of a size that is possible")
    exponent = int(parsed.as_tuple().exponent)
    if parsed and exponent < -DECIMALS:
        raise ValueError("more decimals than are possible")
    return parsed if -DECIMALS <= exponent <= LARGEST.adjusted() else Decimal(0)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("no number")
    if isinstance(value, str) and (len(value) > LONGEST_NUMBER or "_" in value):
        raise ValueError("no number as JSON writes one")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise ValueError("no number") from None


def amount(value: Any) -> Decimal:
    """An amount in USD; null (an unused component) is 0."""
    return Decimal(0) if value is None else number(value)


def count(value: Any) -> int:
    """A whole number; null is 0, a fraction raises ValueError."""
    # Nearly all of them; a million rows have five million.
    if isinstance(value, str) and len(value) < LARGEST.adjusted() and value.isascii() and value.isdigit():
        return int(value)
    parsed = amount(value)
    if parsed != parsed.to_integral_value():
        raise ValueError("no whole number")
    return int(parsed)


def requests(value: Any) -> int:
    """A count of requests, below `MOST_REQUESTS`: the tolerance in USD grows with it."""
    parsed = count(value)
    if abs(parsed) >= MOST_REQUESTS:
        raise ValueError("more requests than are possible")
    return parsed


def limit(value: Any) -> Decimal | None:
    """A limit in USD; None for no limit, which may be written as null or infinity."""
    parsed = None if value is None else _decimal(value)
    return None if parsed is None or (parsed.is_infinite() and not parsed.is_signed()) else number(parsed)


@lru_cache(maxsize=4_096)  # an answer of 10,000 rows is about a few hours
def _instant_of_text(literal: str) -> datetime:
    return instant(literal)


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
    if value is None or not (parsed := number(value)):
        raise ValueError("no instant")
    return _EPOCH + timedelta(milliseconds=int(parsed if parsed >= MILLISECONDS_FROM else parsed * 1000))


def happened(value: Any) -> datetime:
    """The instant (UTC) of an event, within the years `HAPPENED_IN`."""
    moment = _instant_of_text(value) if isinstance(value, str) else instant(value)
    if moment.year not in HAPPENED_IN:
        raise ValueError("an instant at which nothing happened")
    return moment


def day(value: Any) -> date:
    """A UTC day of usage; for an instant, its date as written."""
    return happened(value[:10] if isinstance(value, str) else value).date()


def text(value: Any) -> str:
    """Text, or a number as text, cut to `LONGEST_TEXT` characters."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("no text")
    return str(value)[:LONGEST_TEXT]


def text_or_blank(value: Any) -> str:
    """Text; blank for null."""
    return "" if value is None else text(value)


def flag(value: Any) -> bool:
    """A boolean, also as 0 or 1 or as text."""
    literal = str(value).lower() if isinstance(value, int | str) else ""
    if literal not in ("true", "1", "false", "0"):
        raise ValueError("neither true nor false")
    return literal in ("true", "1")


def fields(value: Any) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def key_hash(value: Any) -> str:
    """The identity of a key: 64 hex digits, in lower case."""
    digits = text(value).strip().lower()
    if not _HASH.fullmatch(digits):
        raise ValueError("no SHA-256 in hex")
    return digits
