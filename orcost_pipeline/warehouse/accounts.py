"""Changes to an account as a whole: renaming, forgetting, and marks that the next publication follows.

Also that no two accounts have the same key. Stays out: what is stored of an account (`questions/accounts.py`). Who
renames or forgets holds the account's sync lock.
"""

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from orcost_pipeline.errors import AccountTwiceError
from orcost_pipeline.text import quoted
from orcost_pipeline.warehouse.locks import KEY_OWNER_LOCK
from orcost_pipeline.warehouse.questions.accounts import Holder, account_id, holder
from orcost_pipeline.warehouse.questions.asking import ask
from orcost_pipeline.warehouse.statements import change

# Written once and never renamed: versions of the mapping, whose author named accounts, and closed statements.
_AS_WRITTEN = ("ref.mapping_rule", "core.closed_line")


# One OpenRouter account, one name


def require_only_holder(
    connection: sa.Connection, account: str, key_hashes: Collection[str], nothing: str, *, is_managed: bool
) -> None:
    """Raises AccountTwiceError where another account has any of the keys; `nothing` says what was not done."""
    other = holder(connection, account, key_hashes)
    if other is not None:
        raise AccountTwiceError(_twice(account, other, nothing, is_managed=is_managed))


def lock_new_keys(connection: sa.Connection, account: str, extraction_id: str) -> None:
    """Of two publications that bring a new key of one workspace at once, the second waits for the first, and sees what
    it brought. Accounts that are really two share no workspace, and never wait for each other.
    """
    change(connection, "lock_new_keys", kind=KEY_OWNER_LOCK, account=account, extraction_id=extraction_id)


def _twice(account: str, other: Holder, nothing: str, *, is_managed: bool) -> str:
    more = f" and {other.keys - 1} more" if other.keys > 1 else ""
    problem = (
        f'Account "{account}" has keys that account "{other.account}" has already ({quoted(other.key_name)}{more}): '
    )
    problem += f"its costs would count twice. {nothing}.\n"
    if other.is_deleted:
        return problem + (
            f'If they were never of "{other.account}" but came in by a wrong key: '
            f'orcost accounts rebuild "{other.account}", with its own key; then sync again'
        )
    if other.kind == "ordinary" and is_managed:
        return problem + (
            f'"{other.account}" is an ordinary key, which this management key lists with all others. '
            f'Remove "{other.account}" from orcost.toml, then: orcost accounts forget "{other.account}"'
        )
    if other.kind == "management" and not is_managed:
        return (
            problem + f'"{other.account}" lists this ordinary key with all others: remove "{account}" from orcost.toml'
        )
    return problem + (
        f'Remove one of the two from orcost.toml. If "{account}" is the new name of "{other.account}": '
        f'orcost accounts rename "{other.account}" "{account}"'
    )


# Changes to an account


def rename(connection: sa.Connection, old: str, new: str) -> None:
    """Moves everything stored under the old name to the new one, after deleting what is stored under the new one.

    The caller, `cli/accounts.py`, refuses a new name that was ever synced, so that no costs are deleted.
    """
    forget(connection, new)
    for table in _tables(connection, "account"):
        connection.execute(sa.text(f"update {table} set account = :new where account = :old"), {"old": old, "new": new})


def forget(connection: sa.Connection, account: str) -> None:
    """Deletes everything stored of the account, in every table."""
    id_ = account_id(connection, account)
    if id_ is not None:
        change(connection, "drop_versions", account_id=id_)
        referring = [table for table in _tables(connection, "account_id") if table not in _REFERRED]
        for table in [*referring, "core.api_key"]:
            connection.execute(sa.text(f"delete from {table} where account_id = :id"), {"id": id_})
    for table in _tables(connection, "account"):
        connection.execute(sa.text(f"delete from {table} where account = :account"), {"account": account})


_REFERRED = ("core.api_key", "ref.account")


def _tables(connection: sa.Connection, column: str) -> list[str]:
    """The tables of ours that have the column."""
    names = ask(connection, "tables_with_column", column=column).scalars()
    return [name for name in names if name not in _AS_WRITTEN]


def confirm(connection: sa.Connection, account: str, now: datetime) -> None:
    """Makes the next sync accept the key in use as this account's, whatever it reports."""
    change(connection, "confirm_account", account=account, now=now)


def ask_for_rebuild(connection: sa.Connection, account: str, at: datetime | None) -> None:
    """Makes the next sync read all that the API reports and replace the stored data of it; None takes that back."""
    change(connection, "ask_for_rebuild", account=account, at=at)
