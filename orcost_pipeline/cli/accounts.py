"""`orcost accounts`: lists the stored accounts, and renames, forgets, confirms or rebuilds one of them.

The user's files are never changed; messages say what to change in them. Every change to an account in the warehouse
holds its sync lock, so that no sync runs meanwhile; a rebuild is a sync itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import typer
from rich.table import Table

from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.rendering import as_json, cells, is_terminal, say, show, table
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import UNKNOWN, clock, rounded
from orcost_pipeline.project_file import require_account_name
from orcost_pipeline.settings import DEFAULT_ACCOUNT, Settings
from orcost_pipeline.text import listed, plural, quoted
from orcost_pipeline.warehouse import accounts, runs
from orcost_pipeline.warehouse.access import warehouse
from orcost_pipeline.warehouse.questions.accounts import (
    AccountRow,
    closed_months_of_account,
    is_rebuild_requested,
    stored_accounts,
)
from orcost_pipeline.warehouse.questions.mapping import rules_naming

NOTHING_CHANGED = "Nothing was changed."
COLUMNS = ("Account", "Kind", "Configured", "Keys", "Known from", "To", "Complete to", "Spent USD", "Bought USD")
Row = dict[str, Any]


def show_accounts(settings: Settings, output: str, now: datetime) -> None:
    """Prints every stored or configured account, as `table` or `json`."""
    with warehouse(settings) as engine, engine.connect() as connection:
        rows = list(_rows(settings, stored_accounts(connection)))
    if output == "json":
        typer.echo(as_json([{name: rendering.plain(value) for name, value in row.items()} for row in rows]))
    else:
        show(_table(rows, now))


def _rows(settings: Settings, stored: Sequence[AccountRow]) -> Iterator[Row]:
    """The stored accounts, then the configured ones that are not stored."""
    configured = [account.name for account in settings.accounts]
    for row in stored:
        yield {**row._asdict(), "is_configured": row.account in configured}
    for name in sorted(set(configured) - {row.account for row in stored}):
        yield {**dict.fromkeys(AccountRow._fields), "account": name, "is_configured": True}


def _table(rows: Sequence[Row], now: datetime) -> Table:
    drawn = table(*COLUMNS, right=("Keys", "Spent USD", "Bought USD"))
    for row in rows:
        drawn.add_row(*cells(*_cells(row, now)))
    return drawn


def _cells(row: Row, now: datetime) -> Iterator[str]:
    yield row["account"]
    yield row["kind"] or UNKNOWN
    yield "yes" if row["is_configured"] else "no"
    yield f"{row['living_keys']} of {row['keys']}" if row["as_of"] else UNKNOWN
    yield from (f"{row[day]}" if row[day] else UNKNOWN for day in ("first_day", "last_day"))
    yield clock(row["as_of"], now) if row["as_of"] else "never synced"
    amounts = (row["spent_usd"] if row["as_of"] else None, row["credits_total_usd"])
    yield from (rounded(amount, 2) if amount is not None else UNKNOWN for amount in amounts)


def rename(settings: Settings, old: str, new: str) -> None:
    """Renames a stored account with all its data, and prints what to change in the user's files.

    Raises PermanentError for an invalid or taken name, and for an account that is not stored.
    """
    require_account_name(new, NOTHING_CHANGED)
    with _held(settings, old, new) as engine, engine.begin() as connection:
        stored = {row.account: row for row in stored_accounts(connection)}
        _require_stored(stored.values(), old)
        if old == new or (new in stored and stored[new].as_of):
            raise PermanentError(f'There is an account "{new}" already. {NOTHING_CHANGED}')
        rules = rules_naming(connection, old)
        accounts.rename(connection, old, new)
    say(f'Account "{old}" is called "{new}" now, with everything that is stored of it.')
    for line in _files_to_change(settings, old, new, rules):
        say(f"  {line}")


def _files_to_change(settings: Settings, old: str, new: str, rules: int) -> Iterator[str]:
    """What to change in the user's files before the next sync of the account."""
    if old in {account.name for account in settings.listed}:
        yield f'{settings.config_file.name}: change name = "{old}" to name = "{new}"'
    elif old == DEFAULT_ACCOUNT and not settings.listed and new != DEFAULT_ACCOUNT:
        variable = settings.accounts[0].api_key_env
        yield f'{settings.config_file.name}: list it: [[accounts]], name = "{new}", api_key_env = "{variable}"'
    if rules:
        named = plural(rules, "line")
        yield f'{settings.mapping.name}: {named} for account "{old}" must say "{new}", or no longer match'


def forget(settings: Settings, name: str, *, is_agreed: bool) -> None:
    """Removes an account and all its data from the warehouse, after confirmation unless `is_agreed`.

    Raises PermanentError for an account that is not stored, and where the user does not agree.
    """
    with warehouse(settings) as engine, engine.connect() as connection:
        row = _require_stored(stored_accounts(connection), name)
        _require_nothing_closed(connection, name)
    say(f'Account "{name}": {_stored(row)}')
    say("Data that OpenRouter no longer reports cannot be read again.")
    _require_agreement(f'Forget "{name}"?', is_agreed=is_agreed)
    with _held(settings, name) as engine, engine.begin() as connection:
        accounts.forget(connection, name)
    say(f'Account "{name}" is forgotten.')
    if name in {account.name for account in settings.accounts if account.api_key}:
        where = settings.config_file.name if settings.listed else ".env"
        say(f"  {where} still names it, so that the next sync begins it anew; remove it there if that is not meant")


def _require_nothing_closed(connection: sa.Connection, name: str) -> None:
    """Raises PermanentError for an account on closed statements: forgotten, its usage would be credited again."""
    if months := closed_months_of_account(connection, name):
        closed = listed(f"{month:%Y-%m}" for month in months)
        raise PermanentError(
            f'Account "{name}" is on statements of closed months ({closed}): without it, they would be credited in the '
            "next open month.\nTo forget it all the same, first open them again, the last one first: "
            f"orcost reopen {months[-1]:%Y-%m} --reason TEXT"
        )


def _stored(row: AccountRow) -> str:
    if not row.as_of:
        return "never synced, no costs stored."
    byok = f" and {rounded(row.byok_usd, 2)} USD of BYOK" if row.byok_usd else ""
    days = f"days from {row.first_day} to {row.last_day}" if row.first_day else "no days"
    return f"{plural(row.keys, 'key')}, {days}, {rounded(row.spent_usd, 2)} USD{byok}."


def confirm(settings: Settings, name: str, now: datetime) -> None:
    """Lets the next sync of the account proceed although its key seems to belong to another account.

    Raises PermanentError for an account that is not stored.
    """
    # A running sync would clear the mark, which is meant for the next one.
    with _held(settings, name) as engine, engine.begin() as connection:
        _require_stored(stored_accounts(connection), name)
        accounts.confirm(connection, name, now)
    say(f'The next sync of "{name}" takes the key in use for one of the same OpenRouter account.')


def rebuild(settings: Settings, name: str, now: datetime, *, is_agreed: bool) -> int:
    """Reads again everything that OpenRouter reports and replaces the stored data; returns the sync's exit code.

    Asks for confirmation unless `is_agreed`. Raises PermanentError for an account that is not stored, and where the
    user does not agree.
    """
    account = settings.account(name)
    with warehouse(settings) as engine:
        with engine.connect() as connection:
            row = _require_stored(stored_accounts(connection), name)
        say(f'Account "{name}": {_stored(row)}')
        say(
            f"With the key in {account.api_key_env}, everything that OpenRouter still reports (a year by day, a month "
            "by hour) is read again and replaces the stored data,\nand keys of other accounts are removed. "
            "Older days stay. Until it is complete, reports show the data stored now."
        )
        _require_agreement(f'Rebuild "{name}"?', is_agreed=is_agreed)
        with engine.begin() as connection:
            accounts.ask_for_rebuild(connection, name, now)
        try:
            return _synced(settings, engine, name)
        finally:
            # After a failure, no later sync should rebuild without anybody waiting for it.
            with engine.begin() as connection:
                accounts.ask_for_rebuild(connection, name, None)


def _synced(settings: Settings, engine: sa.Engine, name: str) -> int:
    """The exit code of the sync that rebuilds. A run may succeed with a problem, such as a refused mapping; the account
    is rebuilt if the publication cleared the mark."""
    from orcost_pipeline.cli.running import sync_accounts

    code = sync_accounts(settings, [name], None, rendering.console(is_error=True))
    with engine.connect() as connection:
        is_rebuilt = not is_rebuild_requested(connection, name)
    if is_rebuilt:
        say(f'Account "{name}" is rebuilt.')
    else:
        say("The rebuild did not finish. Reports show what was stored before.", is_error=True)
    return code


@contextmanager
def _held(settings: Settings, *names: str) -> Iterator[sa.Engine]:
    """Yields the warehouse under the sync locks of the accounts; waits for running syncs to end."""
    with warehouse(settings) as engine, ExitStack() as locks:
        for name in sorted(set(names)):
            locks.enter_context(runs.sync_lock(engine, name, lambda: say("Waiting for a sync to end …", is_error=True)))
        yield engine


def _require_stored(stored: Iterable[AccountRow], name: str) -> AccountRow:
    known = {row.account: row for row in stored}
    if name in known:
        return known[name]
    raise PermanentError(f"Nothing is stored of an account {quoted(name)}. Stored: {listed(known) or 'none'}.")


def _require_agreement(question: str, *, is_agreed: bool) -> None:
    if is_agreed:
        return
    if not is_terminal():
        raise PermanentError(f"{NOTHING_CHANGED} To go on without being asked: --yes")
    if not typer.confirm(question):
        raise PermanentError(NOTHING_CHANGED)
