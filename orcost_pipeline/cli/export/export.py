"""What `orcost export` does: the window, the rows, and a file that is written whole or not at all.

What stays out: how a format holds them (`formats.py`).
"""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline import formats
from orcost_pipeline.cli.export.formats import BINARY, TEXT, require_parquet
from orcost_pipeline.cli.files import writing
from orcost_pipeline.cli.rendering import say
from orcost_pipeline.cli.report import synced_accounts
from orcost_pipeline.cli.report_request import between
from orcost_pipeline.companies.names import require_known
from orcost_pipeline.errors import ContractError, PermanentError
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import plural, quoted
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.explanation import company_names
from orcost_pipeline.warehouse.questions.exports import (
    Export,
    ExportGrain,
    FocusVersion,
    exported_focus,
    exported_spend,
    focus_differences,
)
from orcost_pipeline.windows import DAY, Window, ceil


class Target(NamedTuple):
    """A format, and the file to write; without one, stdout."""

    format: str
    file: Path | None


def spend(
    settings: Settings,
    grain: ExportGrain,
    start: str,
    end: str | None,
    company: str | None,
    target: Target,
    now: datetime,
) -> None:
    """Exports `marts.spend_daily` or `marts.spend_hourly`.

    Raises PermanentError for an invalid window, an unknown company, and a target that cannot be written.
    """
    window = between(start, end, now) if grain == "hour" else _days(start, end, now, "; for hours: --grain hour")

    def chosen(connection: sa.Connection) -> Export:
        if company is not None:
            require_known(company, company_names(connection))
        return exported_spend(connection, grain, window, company)

    _export(settings, chosen, target, now)


def focus(
    settings: Settings, version: FocusVersion, start: str, end: str | None, target: Target, now: datetime
) -> None:
    """Exports `marts.focus_cost_and_usage` with the columns of a version of FOCUS.

    Raises PermanentError for an invalid window and a target that cannot be written, ContractError where FOCUS bills
    another sum than the spend of a day.
    """
    window = _days(start, end, now)

    def checked(connection: sa.Connection) -> Export:
        if different := focus_differences(connection, window).rows:
            row = different[0]
            raise ContractError(
                f"FOCUS bills {row['billed_usd']} USD for account {quoted(row['account'])} on {row['day']}, where "
                f"marts.spend_daily has {row['credits_usd']}. Nothing was exported."
            )
        return exported_focus(connection, version, window)

    _export(settings, checked, target, now)


def _days(start: str, end: str | None, now: datetime, hint: str = "") -> Window:
    window = between(start, end, now)
    if end is None:
        window = Window(window.start, ceil(window.end, DAY))
    if window.whole_days() != window:
        raise PermanentError(f"--from and --to must be whole UTC days, such as 2026-11-01{hint}.")
    return window


def _export(settings: Settings, ask: Callable[[sa.Connection], Export], target: Target, now: datetime) -> None:
    if target.format == "parquet":
        require_parquet()
    if target.format in BINARY and target.file is None:
        raise PermanentError(f"{target.format} is not for a terminal: name a file with --output.")
    with snapshot(settings) as connection:
        as_of = min(it.as_of for it in synced_accounts(connection, settings, None))
        count = _write(ask(connection), target)
    to = f" to {target.file}" if target.file else ""
    say(f"{plural(count, 'row')}{to} · {formats.complete_to(as_of, now)}", is_error=True)


def _write(export: Export, target: Target) -> int:
    """The number of rows that were written."""
    if target.file is None:
        return TEXT[target.format](export, sys.stdout)
    with writing(target.file) as made:
        if target.format in BINARY:
            return BINARY[target.format](export, made)
        with made.open("w", encoding="utf-8", newline="") as stream:
            return TEXT[target.format](export, stream)
