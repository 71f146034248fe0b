"""`orcost keys --review`: the keys with something to do, what is worth doing first, and how many need nothing."""

from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from orcost_pipeline import formats
from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.rendering import MOST_ROWS, cells, left_out, show, table
from orcost_pipeline.cli.report import synced_accounts
from orcost_pipeline.formats import UNKNOWN, key_name, money, short_hash
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import plural, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.key_health import key_review

Row = dict[str, Any]
# Advice → what a person does, filled in from the row.
_SENTENCES = {
    "limit_reached": "limit used up: raise it, or see why",
    "expires_soon": "expires on {expires_at:%Y-%m-%d}: replace it",
    "limit_near": "{limit_used_percent:.0f} % of its limit used: raise it, or see why",
    "no_limit": "set a limit",
    "unused_90_days": "unused for {idle_days} days: revoke it",
    "older_than_365_days": "{age_days} days old: rotate it",
    "shared_name": "other keys have its name: rename it",
    "unused_30_days": "unused for {idle_days} days: is it needed?",
}
_WHERE = "Limit, rotate and revoke keys at openrouter.ai/settings/keys. History and company of a rotated key stay."


def review(settings: Settings, account: str | None, output: str, now: datetime) -> None:
    """Prints the keys that are not deleted: as `table` those with advice, in words; as `csv` or `json` all, with codes.

    Raises PermanentError where nothing was synced yet, or not the wanted account.
    """
    with snapshot(settings) as connection:
        as_of = max(it.as_of for it in synced_accounts(connection, settings, account))
        rows = key_review(connection, account)
    if output == "json":
        rendering.write_json(rows)
    elif output == "csv":
        # One cell: codes have no blanks.
        rendering.write_csv(Rows(rows.columns, [{**row, "advice": " ".join(row["advice"])} for row in rows.rows]))
    else:
        advised = [row for row in rows.rows if row["advice"]]
        settled = f"{len(rows.rows) - len(advised):,} of {plural(len(rows.rows), 'key')} need nothing"
        footer = Text(
            f"{settled} · {formats.complete_to(as_of, now)}",
            style="bold yellow" if formats.is_stale(as_of, now) else "dim",
        )
        more = left_out(len(advised), MOST_ROWS, "orcost keys --review --format csv")
        show(*([_table(advised), *more, "", Text(_WHERE)] if advised else []), footer)


def in_words(row: Row) -> str:
    """The advice of a row of the review as a person acts on it, what is worth doing first."""
    return "; ".join(sentence.format(**row) for code, sentence in _SENTENCES.items() if code in row["advice"])


def _table(rows: list[Row]) -> Table:
    is_several = len({row["account"] for row in rows}) > 1
    columns = ("Key", "Hash", "Company", "Last used", "USD 30d", "Worth doing")
    drawn = table(*(["Account"] if is_several else []), *columns, right=["USD 30d"])
    usd = money([row["credits_30d_usd"] for row in rows])
    for row in rows[:MOST_ROWS]:
        used = f"{row['last_used_at']:%Y-%m-%d}" if row["last_used_at"] else UNKNOWN
        drawn.add_row(
            *cells(
                *([row["account"]] if is_several else []),
                key_name(row["key_name"], row["key_hash"]),
                short_hash(row["key_hash"]),
                short(row["company"] or UNKNOWN),
                used,
                usd(row["credits_30d_usd"]),
                in_words(row),
            )
        )
    return drawn
