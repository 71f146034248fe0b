"""`orcost reconcile`: per day what OpenRouter charged the account, what its keys explain, and why the two differ.

csv and json are exact rows; the table shows for one day everything that is known about a difference.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orcost_pipeline import formats
from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.rendering import cells, show, table
from orcost_pipeline.cli.report import synced_accounts
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import UNKNOWN, clock, key_name, money, rounded, short_hash
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import few, plural, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.reconciliation import (
    disagreeing_keys,
    reconciled_days,
    replaced_counters,
    restatements,
    unkeyed_spend,
)
from orcost_pipeline.windows import DAY, utc_day

DAYS_SHOWN = 31
NAMED_HASHES = 3
RESIDUAL, BYOK_RESIDUAL = "residual_credits_usd", "residual_byok_usd"
ROUNDING = "rounding"
CUT = "some of OpenRouter's answers cut each request's cost to a millionth"
BARS = "▁▂▃▄▅▆▇█"


def reconcile(settings: Settings, account: str | None, day: date | None, output: str, now: datetime) -> int:
    """Prints the last days, or one UTC day in full; returns 1 where a day is open, else 0.

    Raises PermanentError for an unknown day or account.
    """
    last = day or utc_day(now)
    first = day or last - (DAYS_SHOWN - 1) * DAY
    with snapshot(settings) as connection:
        as_of = max(it.as_of for it in synced_accounts(connection, settings, account))
        days = reconciled_days(connection, account, first, last)
        if day and not days.rows:
            raise PermanentError(f"Nothing is known of {day}. Complete to {clock(as_of, now)}; see: orcost reconcile")
        details = list(_details(connection, account, day, days)) if day and output == "table" else [_picture(days)]
    if output == "table":
        footer = Text(formats.complete_to(as_of, now), style="dim")
        show(_days(days), *details, *_rounding(days.rows), "", Text(_verdict(days.rows)), footer)
    else:
        (rendering.write_csv if output == "csv" else rendering.write_json)(days)
    return 1 if any(row["status"] == "open" for row in days.rows) else 0


def _verdict(rows: Sequence[dict[str, Any]]) -> str:
    count = {status: sum(row["status"] == status for row in rows) for status in ("closed", "explained", "open")}
    text = f"{plural(len(rows), 'day')}: {count['closed']} closed, {count['explained']} explained"
    return (
        f"{text}, {count['open']} OPEN. Next: orcost reconcile --day DATE" if count["open"] else f"{text}, none open."
    )


def _days(days: Rows) -> Table:
    several = len({row["account"] for row in days.rows}) > 1
    numbers = {"OpenRouter USD": "account_credits_usd", "Keys USD": "keys_credits_usd", "Left": RESIDUAL}
    if any(row["account_byok_usd"] for row in days.rows):
        numbers["BYOK left"] = BYOK_RESIDUAL
    drawn = table(*(["Account"] if several else []), "Day", *numbers, "Status", "Cause", right=list(numbers))
    shown = {title: _amounts([_left(row, column) for row in days.rows]) for title, column in numbers.items()}
    for number, row in enumerate(days.rows):
        named = [row["account"], str(row["day"])] if several else [str(row["day"])]
        values = [*named, *(column[number] for column in shown.values())]
        style = "bold yellow" if row["status"] == "open" else "dim" if row["cause"] == ROUNDING else ""
        cause = (row["cause"] or "").removesuffix(f"; {ROUNDING}")
        drawn.add_row(*cells(*values, row["status"], cause), style=style)
    return drawn


def _picture(days: Rows) -> Text:
    """The USD that no key explains, as a bar per day."""
    by_day: dict[date, Decimal] = defaultdict(Decimal)
    for row in days.rows:
        by_day[row["day"]] += abs(_left(row, RESIDUAL))
    largest = max(by_day.values(), default=Decimal(0))
    if not largest:
        return Text("")
    bars = "".join(BARS[int(amount / largest * (len(BARS) - 1))] if amount else "·" for amount in by_day.values())
    return Text(f"\nLeft by day: {bars}", style="dim")


def _rounding(rows: Sequence[dict[str, Any]]) -> Iterator[Text]:
    """One line on the USD that rounding explains; for an account whose analytics cut costs, it affects every day."""
    amounts: list[Decimal] = [row["rounding_usd"] for row in rows if row["rounding_usd"]]
    if amounts:
        amount = f"{rounded(sum(amounts, Decimal(0)), 6)} USD on {plural(len(amounts), 'day')}"
        yield Text(f"\nRounding: {amount} ({CUT})", style="dim")


def _details(connection: Any, account: str | None, day: date, days: Rows) -> Iterator[RenderableType]:
    """Everything about one day: the amount of each source, differences by key, what was restated or replaced."""
    yield Text("\nWitnesses", style="bold")
    yield _witnesses(days)
    unkeyed = unkeyed_spend(connection, account, day)
    named = ("key_name", "key_hashes", "cause") if any(row["key_hashes"] for row in unkeyed.rows) else _NAMED
    for title, rows, names, amounts in (
        ("No key explains", unkeyed, named, _USD),
        ("Hours and day differ", disagreeing_keys(connection, account, day), ("key_name",), _HOURS_DAY),
        ("Restated", restatements(connection, account, day), ("noticed_at", "key_name", "model"), _RESTATED),
        ("Counters replaced", replaced_counters(connection, account, day), ("replaced_at",), _REPLACED),
    ):
        if rows.rows:
            yield Text(f"\n{title}", style="bold")
            yield _detail(rows, names, amounts)


_NAMED = ("key_name", "cause")
_USD = {"USD": "credits_usd", "BYOK USD": "byok_usd"}
_HOURS_DAY = {"By hours USD": "hours_credits_usd", "By day USD": "day_credits_usd"}
_RESTATED = {"Before USD": "credits_usd_before", "After USD": "credits_usd_after"}
_REPLACED = {"Counted USD": "counted_credits_usd", "By analytics USD": "told_credits_usd"}
_WITNESSES = {
    "the account's day": ("account_credits_usd", "account_byok_usd"),
    "the account's hours": ("hours_credits_usd", "hours_byok_usd"),
    "the keys' days": ("keys_credits_usd", "keys_byok_usd"),
    "the keys' activity": ("keys_activity_credits_usd", "keys_activity_byok_usd"),
    "the keys' hours": ("keys_hours_credits_usd", "keys_hours_byok_usd"),
    "the keys' counters": ("counters_credits_usd", "counters_byok_usd"),
    "GET /credits": ("credits_endpoint_usd", None),
}
_TITLES = {
    "replaced_at": "Replaced",
    "key_name": "Key",
    "key_hashes": "Keys of that name",
    "cause": "Cause",
    "noticed_at": "Noticed",
    "model": "Model",
}


def _witnesses(days: Rows) -> Table:
    """The amounts of each source for the day in USD; – where it has none."""
    drawn = table("Witness", "USD", "BYOK USD", right=["USD", "BYOK USD"])
    for row in days.rows:
        write = money(amount for names in _WITNESSES.values() for name in names if name and (amount := row[name]))
        whose = f" of {row['account']}" if len(days.rows) > 1 else ""
        for witness, names in _WITNESSES.items():
            amounts = [row[name] if name else None for name in names]
            drawn.add_row(*cells(witness + whose, *(UNKNOWN if it is None else write(it) for it in amounts)))
    return drawn


def _detail(rows: Rows, names: Sequence[str], amounts: dict[str, str]) -> Table:
    drawn = table(*(_TITLES[name] for name in names), *amounts, right=list(amounts))
    shown = [_amounts([row[column] for row in rows.rows]) for column in amounts.values()]
    for number, row in enumerate(rows.rows):
        drawn.add_row(*cells(*(_named(name, row) for name in names), *(column[number] for column in shown)))
    return drawn


def _named(column: str, row: dict[str, Any]) -> str:
    """A cell that names the subject of a row; a key that was never listed has only its hash."""
    value, key_hash = row[column], row.get("key_hash")
    if column == "key_name":
        return f"{key_name(value, key_hash)} {short_hash(key_hash) if key_hash and value is None else ''}".rstrip()
    if column == "key_hashes":
        return ", ".join(few([short_hash(it) for it in value or ()], NAMED_HASHES)) or UNKNOWN
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else short(value or UNKNOWN)


def _left(row: dict[str, Any], column: str) -> Decimal:
    """An amount of a day in USD; the residual of a closed day, or of mere rounding, is 0."""
    closes = column in (RESIDUAL, BYOK_RESIDUAL) and (row["status"] == "closed" or row["cause"] == ROUNDING)
    return Decimal(0) if closes else row[column]


def _amounts(amounts: Sequence[Decimal]) -> list[str]:
    """A column of amounts in USD; 0 is –."""
    write = money(amounts)
    return [write(amount) if amount else UNKNOWN for amount in amounts]
