"""Accounts as a whole: what tells one OpenRouter account from another, and what is done to all that one holds.

Belongs here: the evidence that is stored, who else holds a key, listing, renaming, forgetting, and the marks that the
next publication obeys. Stays out: what a key's own answers say (`sync/identity.py`). Who renames or forgets holds the
account's sync lock.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.errors import AccountTwiceError
from orcost_pipeline.text import quoted
from orcost_pipeline.warehouse.locks import KEY_OWNER_LOCK

# Who wrote the mapping named its accounts: its versions stay as they were written.
_NOT_OURS = ("ref.mapping_rule",)


class Evidence(NamedTuple):
    """What tells an OpenRouter account from another, as it is stored or as it is told now.

    `keys` are those that live, by hash; `gone` those that are stored as deleted. USD are those of `GET /credits`.
    `is_whole`: OpenRouter refused no listing to the key that asked, so that what is not listed is not there.
    """

    keys: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    workspaces: frozenset[str] = frozenset()
    organization_id: str | None = None
    credits_total_usd: Decimal | None = None
    credits_used_usd: Decimal | None = None
    is_confirmed: bool = False
    is_rebuild_requested: bool = False
    is_whole: bool = True


def stored_evidence(connection: sa.Connection, account: str) -> Evidence:
    """What is stored of an account; nothing of one that was never published."""
    row = connection.execute(
        sa.text("select * from ref.account where account = :account and as_of is not null"), {"account": account}
    ).one_or_none()
    if row is None:
        return Evidence()
    keys = connection.execute(
        sa.text(
            "select k.key_hash, k.deleted_at, v.workspace_id from core.api_key k "
            "join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null where k.account_id = :id"
        ),
        {"id": row.account_id},
    ).all()
    listed = connection.execute(
        sa.text("select workspace_id from raw.workspace where account = :account and run_id = :run_id"),
        {"account": account, "run_id": row.published_run_id},
    ).scalars()
    return Evidence(
        keys=frozenset(key.key_hash for key in keys if key.deleted_at is None),
        gone=frozenset(key.key_hash for key in keys if key.deleted_at is not None),
        workspaces=frozenset(key.workspace_id for key in keys if key.workspace_id) | frozenset(listed),
        organization_id=row.organization_id,
        credits_total_usd=row.credits_total_usd,
        credits_used_usd=row.credits_used_usd,
        is_confirmed=row.confirmed_at is not None,
        is_rebuild_requested=row.rebuild_at is not None,
    )


def is_stored(engine: sa.Engine, account: str) -> bool:
    with engine.connect() as connection:
        known = sa.text("select exists (select from ref.account where account = :account)")
        return bool(connection.execute(known, {"account": account}).scalar_one())


# One OpenRouter account, one name


class Holder(NamedTuple):
    """Another account that has some of the keys: how many, one of them by name, and what kind each account is."""

    account: str
    kind: str | None
    keys: int
    key_name: str
    is_deleted: bool


def holder(connection: sa.Connection, account: str, key_hashes: Collection[str]) -> Holder | None:
    """Who had any of the keys before this account; of two that both have a key already, the older one had it."""
    row = connection.execute(
        sa.text(
            "select a.account, a.kind, count(*) as keys, min(v.name) as key_name, "
            "bool_and(k.deleted_at is not null) as is_deleted "
            "from core.api_key k join ref.account a using (account_id) "
            "join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null "
            "left join ref.account o on o.account = :account "
            "left join core.api_key own on own.account_id = o.account_id and own.key_hash = k.key_hash "
            "where k.key_hash = any(:keys) and a.account <> :account "
            "and (own.key_id is null or k.account_id < own.account_id) "
            "group by a.account_id order by keys desc, a.account_id limit 1"
        ),
        {"account": account, "keys": list(key_hashes)},
    ).one_or_none()
    return Holder(*row) if row else None


def require_only_holder(
    connection: sa.Connection, account: str, key_hashes: Collection[str], nothing: str, *, is_managed: bool
) -> None:
    """Raises AccountTwiceError where another account has any of the keys; `nothing` says what was not done."""
    other = holder(connection, account, key_hashes)
    if other is not None:
        raise AccountTwiceError(_twice(account, other, nothing, is_managed=is_managed))


def lock_new_keys(connection: sa.Connection, account: str, run_id: str) -> None:
    """Of two publications that bring a new key of one workspace at once, the second waits for the first, and sees what
    it brought. Accounts that are really two share no workspace, and never wait for each other.
    """
    connection.execute(
        sa.text(
            "select pg_advisory_xact_lock(:kind, hashtext(workspace_id)) from ("
            "select distinct coalesce(r.workspace_id, r.key_hash) as workspace_id from raw.api_key r "
            "where r.run_id = :run_id and r.account = :account and not r.is_deleted and not exists ("
            "select from core.api_key k join ref.account a using (account_id) "
            "where a.account = :account and k.key_hash = r.key_hash) order by 1) new"
        ),
        {"kind": KEY_OWNER_LOCK, "account": account, "run_id": run_id},
    )


def _twice(account: str, other: Holder, nothing: str, *, is_managed: bool) -> str:
    more = f" and {other.keys - 1} more" if other.keys > 1 else ""
    told = f'Account "{account}" has keys that account "{other.account}" has already ({quoted(other.key_name)}{more}): '
    told += f"its costs would count twice. {nothing}.\n"
    if other.is_deleted:
        return told + (
            f'If they were never of "{other.account}" but came in by a wrong key: '
            f'orcost accounts rebuild "{other.account}", with its own key; then sync again'
        )
    if other.kind == "ordinary" and is_managed:
        return told + (
            f'"{other.account}" is an ordinary key, which this management key lists with all others. '
            f'Remove "{other.account}" from orcost.toml, then: orcost accounts forget "{other.account}"'
        )
    if other.kind == "management" and not is_managed:
        return told + f'"{other.account}" lists this ordinary key with all others: remove "{account}" from orcost.toml'
    return told + (
        f'Remove one of the two from orcost.toml. If "{account}" is the new name of "{other.account}": '
        f'orcost accounts rename "{other.account}" "{account}"'
    )


# What there is


class AccountRow(NamedTuple):
    """An account and what is stored of it; `spent_usd` is the sum of its days in credits."""

    account: str
    kind: str | None
    status: str | None
    keys: int
    living_keys: int
    first_day: date | None
    last_day: date | None
    as_of: datetime | None
    credits_total_usd: Decimal | None
    credits_used_usd: Decimal | None
    spent_usd: Decimal
    byok_usd: Decimal


def stored_accounts(connection: sa.Connection) -> Sequence[AccountRow]:
    """Every account that the warehouse knows, by name."""
    rows = connection.execute(
        sa.text(
            "select a.account, a.kind, a.status, coalesce(k.keys, 0), coalesce(k.living, 0), d.first_day, d.last_day, "
            "a.as_of, a.credits_total_usd, a.credits_used_usd, coalesce(s.credits_usd, 0), coalesce(s.byok_usd, 0) "
            "from ref.account a "
            "left join (select account_id, count(*) as keys, count(*) filter (where deleted_at is null) as living "
            "from core.api_key group by account_id) k using (account_id) "
            "left join (select account_id, min(day) as first_day, max(day) as last_day from core.account_day "
            "group by account_id) d using (account_id) "
            "left join (select account_id, trim_scale(sum(credits_usd)) as credits_usd, "
            "trim_scale(sum(byok_usd)) as byok_usd from core.company_day group by account_id) s using (account_id) "
            "order by a.account"
        )
    )
    return [AccountRow(*row) for row in rows]


def rules_naming(connection: sa.Connection, account: str) -> int:
    """How many lines of the mapping in force are for this account alone."""
    return connection.execute(
        sa.text(
            "select count(*) from ref.mapping_rule where account = :account "
            "and version = (select max(version) from ref.mapping_version)"
        ),
        {"account": account},
    ).scalar_one()


# What is done to an account


def rename(connection: sa.Connection, old: str, new: str) -> None:
    """Everything that is kept under the old name, under the new one; what was never synced gives way to it."""
    forget(connection, new)
    for table in _tables(connection, "account"):
        connection.execute(sa.text(f"update {table} set account = :new where account = :old"), {"old": old, "new": new})


def forget(connection: sa.Connection, account: str) -> None:
    """Everything that is kept of the account, in every table."""
    id_ = connection.execute(
        sa.text("select account_id from ref.account where account = :account"), {"account": account}
    ).scalar()
    if id_ is not None:
        connection.execute(
            sa.text(
                "delete from core.api_key_version v using core.api_key k where v.key_id = k.key_id and account_id = :id"
            ),
            {"id": id_},
        )
        referring = [table for table in _tables(connection, "account_id") if table not in _REFERRED]
        for table in [*referring, "core.api_key"]:
            connection.execute(sa.text(f"delete from {table} where account_id = :id"), {"id": id_})
    for table in _tables(connection, "account"):
        connection.execute(sa.text(f"delete from {table} where account = :account"), {"account": account})


_REFERRED = ("core.api_key", "ref.account")


def _tables(connection: sa.Connection, column: str) -> list[str]:
    """The tables of ours that have the column."""
    names = connection.execute(
        sa.text(
            "select c.table_schema || '.' || c.table_name from information_schema.columns c "
            "join information_schema.tables t using (table_schema, table_name) where t.table_type = 'BASE TABLE' "
            "and c.table_schema in ('raw', 'ref', 'core', 'marts', 'ops') and c.column_name = :column order by 1"
        ),
        {"column": column},
    ).scalars()
    return [name for name in names if name not in _NOT_OURS]


def confirm(connection: sa.Connection, account: str, now: datetime) -> None:
    """The next sync takes the key in use for one of this account, whatever it tells."""
    connection.execute(
        sa.text("update ref.account set confirmed_at = :now where account = :account"), {"account": account, "now": now}
    )


def is_rebuild_requested(connection: sa.Connection, account: str) -> bool:
    """Whether a rebuild was asked for and not made yet: its publication clears the mark."""
    statement = sa.text("select exists (select from ref.account where account = :account and rebuild_at is not null)")
    return bool(connection.execute(statement, {"account": account}).scalar())


def ask_for_rebuild(connection: sa.Connection, account: str, at: datetime | None) -> None:
    """The next sync reads all that the API tells and replaces what is stored of it; None takes that back."""
    connection.execute(
        sa.text("update ref.account set rebuild_at = :at where account = :account"), {"account": account, "at": at}
    )
