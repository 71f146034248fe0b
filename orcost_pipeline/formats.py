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
_ROUNDING = Context(prec=1_000, rounding=ROUND_HALF_UP)
_NOTHING = Decimal(0)


# Keys


def key_name(name: str | None, key_hash: str | None) -> str:
    """A key's name, or why there is none: it is blank, the key was never listed, or there is no key."""
    if name is None:
        return NEVER_LISTED if key_hash else NO_KEY
    return short(name) if name.strip() else NO_NAME


def short_hash(key_hash: str | None) -> str:
    """The first digits of a hash: enough to identify a key, and for `orcost map explain` to find it."""
    return key_hash[:SHORT_HASH] if key_hash else UNKNOWN


# Amounts and counts


def as_rounded(amount: Decimal, places: int) -> Decimal:
    """An amount rounded half up to `places` decimals."""
    return amount.quantize(Decimal(1).scaleb(-places), context=_ROUNDING)


def rounded(amount: Decimal, places: int) -> str:
    """An amount rounded half up to `places` decimals, with thousands separators and a typographic minus."""
    # A sum with 0 is never −0.
    return f"{_ROUNDING.add(as_rounded(amount, places), _NOTHING):,}".replace("-", "−")


def money_places(column: Iterable[Decimal | None]) -> int:
    """The decimals with which the amounts (USD) of a column are shown: two, or four where all are below a dollar."""
    largest = max((abs(amount) for amount in column if amount is not None), default=Decimal(0))
    return 4 if 0 < largest < 1 else 2


def money(column: Iterable[Decimal | None]) -> Callable[[Decimal | None], str]:
    """A formatter for the amounts (USD) of a column, with as many decimals as `money_places` says."""
    places = money_places(column)
    return lambda amount: UNKNOWN if amount is None else rounded(amount, places)


def tokens(count: Decimal) -> str:
    """A count of tokens, shortened: 12,345,678 is 12.3 M."""
    for size, unit in ((1, ""), (10**3, "k"), (10**6, "M"), (10**9, "B")):
        if abs(count) < Decimal("999.95") * size or unit == "B":
            break
    return f"{rounded(count / size, 1)} {unit}" if unit else rounded(count, 0)


def change(now: Decimal, before: Decimal | None) -> str:
    """The change from `before` to `now` in percent; `new` where `before` is 0."""
    if before is None or now == before == 0:
        return UNKNOWN
    if before == 0:
        return "new"
    percent = rounded((now - before) / abs(before) * 100, 0)
    return f"{percent} %" if percent.startswith(("−", "0")) else f"+{percent} %"


def percentage(percent: Decimal) -> str:
    """A percentage without trailing zeros: 60.0 is 60."""
    text = f"{percent:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(part: Decimal, whole: Decimal) -> str:
    """A part in percent; a small positive part is `< 0.1 %`, never 0."""
    if part == 0 or whole == 0:
        return "0 %"
    percent = part / whole * 100
    return "< 0.1 %" if 0 < percent < Decimal("0.05") else f"{rounded(percent, 1)} %"


# Times


def age(span: timedelta) -> str:
    """How long ago, in days, hours or minutes; for a span in the future, that a clock was wrong."""
    if span < -CLOCK_WRONG:
        return f"in {length(-span)}: a clock was wrong"
    return f"{length(span)} ago" if span >= _MINUTE else "just now"


def length(span: timedelta) -> str:
    """A span in whole days from two days on, else in whole hours or minutes."""
    for unit, name in ((DAY, "day"), (HOUR, "hour")):
        if span >= (2 * unit if unit is DAY else unit):
            return plural(span // unit, name)
    return plural(span // _MINUTE, "minute")


def clock(instant: datetime, now: datetime) -> str:
    """The minute in UTC, with its date unless that is today."""
    return f"{instant:%H:%M} UTC" if utc_day(instant) == utc_day(now) else f"{instant:%Y-%m-%d %H:%M} UTC"


def complete_to(as_of: datetime, now: datetime) -> str:
    """How far data is complete, marked STALE where it is too old to be trusted."""
    text = f"omplete to {clock(as_of, now)} ({age(now - as_of)})"
    return f"STALE: c{text}" if is_stale(as_of, now) else f"C{text}"


def is_stale(as_of: datetime, now: datetime) -> bool:
    """Whether data is older than `STALE_AFTER`, or dated into the future, where its age is unknown."""
    return now - as_of > STALE_AFTER or is_future(as_of, now)
