"""`orcost map todo`: the keys without an owner, the most expensive first."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from orcost_pipeline import formats
from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.rendering import MOST_ROWS, cells, left_out, show, table
from orcost_pipeline.cli.report import synced_accounts
from orcost_pipeline.formats import UNKNOWN, key_name, money, share, short_hash
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import plural, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.mapping import unattributed_keys


def todo(settings: Settings, account: str | None, output: str, now: datetime) -> None:
    """Prints unattributed spend by key, as `table`, `csv` or `json`; active keys without spend come last."""
    with snapshot(settings) as connection:
        as_of = min(it.as_of for it in synced_accounts(connection, settings, account))
        rows = unattributed_keys(connection, account)
    if output == "table":
        show(*_parts(rows), Text(formats.complete_to(as_of, now), style="dim"))
        return
    (rendering.write_csv if output == "csv" else rendering.write_json)(rows)


def _parts(rows: Rows) -> Sequence[RenderableType]:
    waiting = [row for row in rows.rows if row["key_hash"]]
    if not rows.rows:
        return [Text("Nothing is Unattributed.")]
    count = "No key waits for a rule." if not waiting else f"{plural(len(waiting), 'key')} without an owner."
    todo = " Next: orcost map suggest, then: orcost map add" if waiting else ""
    shown = rows.rows[:MOST_ROWS]
    more = left_out(len(rows.rows), len(shown), "orcost map todo --format csv")
    return [_table(shown), *more, "", Text(count + todo, style="yellow" if waiting else "")]


def _table(rows: Sequence[dict[str, Any]]) -> RenderableType:
    spent, byok = money(row["credits_usd"] for row in rows), money(row["byok_usd"] for row in rows)
    several = len({row["account"] for row in rows}) > 1
    drawn = table(
        *(["Account"] if several else []),
        *("Key", "Hash", "Workspace", "Creator", "Days", "USD", "Of all", "BYOK USD"),
        right=["USD", "Of all", "BYOK USD"],
    )
    for row in rows:
        days = f"{row['first_day']} – {row['last_day']}" if row["first_day"] else UNKNOWN
        drawn.add_row(
            *cells(
                *([row["account"]] if several else []),
                key_name(row["key_name"], row["key_hash"]),
                short_hash(row["key_hash"]),
                short(row["workspace_name"] or UNKNOWN),
                short(row["creator"] or UNKNOWN),
                days,
                spent(row["credits_usd"] or None),
                share(row["share_of_account"], Decimal(1)),
                byok(row["byok_usd"] or None),
            )
        )
    return drawn
