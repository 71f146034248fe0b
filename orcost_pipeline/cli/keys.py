"""`orcost keys`: the API keys, past and present, their companies, and with --history their changes."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from orcost_pipeline import formats
from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.rendering import cells, show, table
from orcost_pipeline.cli.report import synced_accounts
from orcost_pipeline.formats import UNKNOWN, key_name, money, share, short_hash
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import plural, quoted, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.keys import key_history, keys_with_spend

Row = dict[str, Any]
# The attributes of a key that may change: column → its name in a sentence.
_ATTRIBUTES = {
    "workspace_name": "workspace",
    "creator_email": "creator",
    "external_user": "external user",
    "expires_at": "expiry",
    "limit_usd": "limit in USD",
    "limit_reset": "reset of the limit",
    "include_byok_in_limit": "BYOK within the limit",
}


def keys(settings: Settings, account: str | None, output: str, now: datetime, *, is_history: bool) -> None:
    """Prints a row per key, or one per change of a key, as `table`, `csv` or `json`.

    Raises PermanentError where nothing was synced yet, or not the wanted account.
    """
    with snapshot(settings) as connection:
        as_of = max(it.as_of for it in synced_accounts(connection, settings, account))
        rows = (key_history if is_history else keys_with_spend)(connection, account)
    if output == "table":
        drawn = _history(rows) if is_history else _keys(rows, now)
        count = len({(row["account"], row["key_hash"]) for row in rows.rows})
        footer = f"{plural(count, 'key')} · {formats.complete_to(as_of, now)}"
        show(drawn, "", Text(footer, style="bold yellow" if formats.is_stale(as_of, now) else "dim"))
    else:
        (rendering.write_csv if output == "csv" else rendering.write_json)(rows)


def _keys(rows: Rows, now: datetime) -> Table:
    several = _several_accounts(rows)
    has_limits = any(row["limit_usd"] is not None for row in rows.rows)
    limits = ["Limit USD", "Used"] if has_limits else []
    numbers = {"USD 30d": "credits_usd_30d"}
    if any(row["byok_usd_30d"] for row in rows.rows):
        numbers["BYOK 30d"] = "byok_usd_30d"
    named = ("Key", "Hash", "Company", "Workspace", "State", "Last used")
    drawn = table(*(["Account"] if several else []), *named, *numbers, *limits, right=[*numbers, *limits])
    shown = [money([row[column] for row in rows.rows]) for column in numbers.values()]
    for row in rows.rows:
        spend, *byok = (row[column] for column in numbers.values())
        amounts = [show_usd(it) for show_usd, it in zip(shown, [spend, *(it or None for it in byok)], strict=True)]
        used = f"{row['last_used_at']:%Y-%m-%d %H:%M}" if row["last_used_at"] else UNKNOWN
        values = (
            key_name(row["name"], row["key_hash"]),
            short_hash(row["key_hash"]),
            short(row["companies"] or UNKNOWN),
        )
        values += (short(row["workspace_name"] or UNKNOWN), state(row, now), used)
        limit = _limit(row) if has_limits else ()
        account = [row["account"]] if several else []
        drawn.add_row(*cells(*account, *values, *amounts, *limit))
    return drawn


def _limit(row: Row) -> tuple[str, str]:
    """The limit in USD with its reset period, and the used part of it in percent."""
    if row["limit_usd"] is None:
        return UNKNOWN, UNKNOWN
    every = f" {row['limit_reset']}" if row["limit_reset"] else ""
    byok = " with BYOK" if row["include_byok_in_limit"] else ""
    used = row["limit_used_percent"]
    return f"{rendering.plain(row['limit_usd'])}{every}{byok}", UNKNOWN if used is None else share(used, Decimal(100))


def state(row: Row, now: datetime) -> str:
    """The state of a key: active, disabled, expired or deleted."""
    if row["deleted_at"]:
        return f"deleted by {row['deleted_at']:%Y-%m-%d}"
    if row["expires_at"] and row["expires_at"] <= now:
        return f"expired {row['expires_at']:%Y-%m-%d}"
    return "disabled" if row["is_disabled"] else "active"


def _history(rows: Rows) -> Table:
    several = _several_accounts(rows)
    drawn = table(*(["Account"] if several else []), "Key", "Hash", "Since (UTC)", "What")
    for _, versions in groupby(rows.rows, key=lambda row: (row["account"], row["key_hash"])):
        before: Row | None = None
        for row in versions:
            since = f"{row['valid_from']:%Y-%m-%d %H:%M}"
            what, key = "; ".join(changes(before, row)), short_hash(row["key_hash"])
            account = [row["account"]] if several else []
            drawn.add_row(*cells(*account, key_name(row["name"], row["key_hash"]), key, since, what))
            before = row
    return drawn


def changes(before: Row | None, after: Row) -> Iterator[str]:
    """The changes of a key between two versions, in words; for the first version, that it was seen."""
    if before is None:
        yield "first seen" + (", disabled" if after["is_disabled"] else "")
        return
    if after["is_deleted"] and not before["is_deleted"]:
        yield "deleted"
        return
    if before["is_deleted"] and not after["is_deleted"]:
        yield "came back"
    if before["name"] != after["name"]:
        yield f"renamed from {quoted(before['name'])}"
    if before["is_disabled"] != after["is_disabled"]:
        yield "disabled" if after["is_disabled"] else "enabled"
    for column, name in _ATTRIBUTES.items():
        if before[column] != after[column]:
            yield f"{name}: {_value(before[column])} → {_value(after[column])}"


def _value(value: Any) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else short(str(rendering.plain(value)))


def _several_accounts(rows: Rows) -> bool:
    accounts: Sequence[str] = [row["account"] for row in rows.rows]
    return len(set(accounts)) > 1
