"""Amounts, counts, times and keys as people read them, in plain text. Unknown values are `–`.

What belongs here: one value in, a short string out. Tables, colours and exact data for programs are in `cli/`.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal

from orcost_pipeline.text import plural, short
from orcost_pipeline.windows import CLOCK_WRONG, DAY, HOUR, STALE_AFTER, is_future, utc_day

UNKNOWN = "–"
NO_KEY, NO_NAME, NEVER_LISTED = "(no key)", "(no name)", "(never listed)"
SHORT_HASH = 8
_MINUTE = timedelta(minutes=1)
_ROUNDING = Context(prec=100, rounding=ROUND_HALF_UP)


# Keys


def key_name(name: str | None, key_hash: str | None) -> str:
    """How a key is called, or why no name is to be had: it is blank, OpenRouter never listed the key, there is none."""
    if name is None:
        return NEVER_LISTED if key_hash else NO_KEY
    return short(name) if name.strip() else NO_NAME


def short_hash(key_hash: str | None) -> str:
    """Enough of a hash to tell a key from others, and for `orcost map explain` to find it."""
    return key_hash[:SHORT_HASH] if key_hash else UNKNOWN


# Amounts and counts


def rounded(amount: Decimal, places: int) -> str:
    """Half up, with thousands separators and a real minus."""
    shown = amount.quantize(Decimal(1).scaleb(-places), context=_ROUNDING)
    return f"{shown + 0:,}".replace("-", "−")


def money(column: Iterable[Decimal | None]) -> Callable[[Decimal | None], str]:
    """How to write the amounts of a column: two decimals, four where all of them are under a dollar."""
    largest = max((abs(amount) for amount in column if amount is not None), default=Decimal(0))
    places = 4 if 0 < largest < 1 else 2
    return lambda amount: UNKNOWN if amount is None else rounded(amount, places)


def tokens(count: Decimal) -> str:
    """12,345,678 is 12.3 M."""
    for size, unit in ((1, ""), (10**3, "k"), (10**6, "M"), (10**9, "B")):
        if abs(count) < Decimal("999.95") * size or unit == "B":
            break
    return f"{rounded(count / size, 1)} {unit}" if unit else rounded(count, 0)


def change(now: Decimal, before: Decimal | None) -> str:
    """From `before` to `now` in percent; `new` for what was nothing."""
    if before is None or now == before == 0:
        return UNKNOWN
    if before == 0:
        return "new"
    percent = rounded((now - before) / abs(before) * 100, 0)
    return f"{percent} %" if percent.startswith(("−", "0")) else f"+{percent} %"


def percentage(percent: Decimal) -> str:
    """As short as it is exact: 60.0 is 60."""
    text = f"{percent:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(part: Decimal, whole: Decimal) -> str:
    """A part in percent; what is there is never 0.0 %."""
    if part == 0 or whole == 0:
        return "0 %"
    percent = part / whole * 100
    return "< 0.1 %" if 0 < percent < Decimal("0.05") else f"{rounded(percent, 1)} %"


# Times


def age(span: timedelta) -> str:
    """How long ago, in the largest unit that says enough; of what is yet to come, that a clock was wrong."""
    if span < -CLOCK_WRONG:
        return f"in {length(-span)}: a clock was wrong"
    return f"{length(span)} ago" if span >= _MINUTE else "just now"


def length(span: timedelta) -> str:
    """In whole days from two days on, else in hours or minutes."""
    for unit, name in ((DAY, "day"), (HOUR, "hour")):
        if span >= (2 * unit if unit is DAY else unit):
            return plural(span // unit, name)
    return plural(span // _MINUTE, "minute")


def clock(instant: datetime, now: datetime) -> str:
    """The minute in UTC, with its date unless that is today."""
    return f"{instant:%H:%M} UTC" if utc_day(instant) == utc_day(now) else f"{instant:%Y-%m-%d %H:%M} UTC"


def complete_to(as_of: datetime, now: datetime) -> str:
    """How far data is complete, so that what is old never looks like what is so."""
    told = f"omplete to {clock(as_of, now)} ({age(now - as_of)})"
    return f"STALE: c{told}" if is_stale(as_of, now) else f"C{told}"


def is_stale(as_of: datetime, now: datetime) -> bool:
    """Whether data is too old to be trusted, or, dated into the future, of an age that nobody knows."""
    return now - as_of > STALE_AFTER or is_future(as_of, now)
