"""The accounts that the warehouse knows, and what distinguishes one OpenRouter account from another.

Stays out: what is done to an account (`warehouse/accounts.py`), and what a key's own answers say (`sync/identity.py`).
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import ask, records
from orcost_pipeline.warehouse.questions.extracted import listed_workspaces


class AccountState(NamedTuple):
    """One account: its state, its last runs, and from when on its spend is known. USD are those of `GET /credits`."""

    account: str
    kind: str | None
    status: str | None
    as_of: datetime | None
    error: str | None
    error_code: str | None
    balance_usd: Decimal | None
    credits_total_usd: Decimal | None
    workspaces_refused_since: datetime | None
    members_refused_since: datetime | None
    known_from: datetime | None
    hours_from: datetime | None
    is_counted: bool
    last_success_at: datetime | None
    failing_since: datetime | None
    last_run_status: str | None
    last_run_error: str | None
    last_run_at: datetime | None

    @classmethod
    def never_synced(cls, account: str) -> "AccountState":
        """The state of an account of which the warehouse has nothing."""
        nothing: dict[str, Any] = dict.fromkeys(cls._fields)
        return cls(**(nothing | {"account": account, "is_counted": False}))

    def synced(self) -> "SyncedAccount | None":
        """What reports need of it; None where it has no figures yet."""
        if self.as_of is None:
            return None
        return SyncedAccount(self.account, self.as_of, self.known_from, self.hours_from, self.is_counted)


class SyncedAccount(NamedTuple):
    """An account that has figures, complete to `as_of`; is_counted: its hours come from the keys' counters."""

    account: str
    as_of: datetime
    known_from: datetime | None
    hours_from: datetime | None
    is_counted: bool


def account_states(connection: sa.Connection) -> Sequence[AccountState]:
    """Every account, by name."""
    return records(AccountState, ask(connection, "account_states"))


class OutdatedAccount(NamedTuple):
    """An account that was published, but not by the mapping or the price plans in force."""

    account: str
    lacks_mapping: bool
    lacks_plans: bool


def outdated_accounts(connection: sa.Connection) -> dict[str, OutdatedAccount]:
    """The accounts that were published, but not by the mapping and the price plans in force, by name."""
    return {it.account: it for it in records(OutdatedAccount, ask(connection, "outdated_accounts"))}


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
    return records(AccountRow, ask(connection, "stored_accounts"))


class StoredAccount(NamedTuple):
    """What a sync goes on from: how far the account's data reaches (UTC), and which passes over everything are due.

    `full_pass_at` is when analytics were last read in full, `is_counted` whether hours are booked from counters.
    """

    account_id: int
    kind: str | None
    as_of: datetime | None
    hours_from: datetime | None
    full_pass_at: datetime | None
    published_run_id: str | None
    is_counted: bool
    is_rebuild_requested: bool


def stored_account(connection: sa.Connection, account: str) -> StoredAccount | None:
    """The account as it is stored; None for one that no sync has begun for."""
    found = records(StoredAccount, ask(connection, "stored_account", account=account))
    return found[0] if found else None


def cuts_a_sum(connection: sa.Connection, account_id: int, at: datetime) -> bool:
    """Whether an instant (UTC) lies within a span of which only the sum is known, from counters."""
    return ask(connection, "cuts_a_sum", account_id=account_id, at=at).scalar_one()


class Evidence(NamedTuple):
    """What distinguishes an OpenRouter account from others, as it is stored or as it is reported now.

    `keys` are the active ones, by hash; `deleted` those that are stored as deleted. USD are those of `GET /credits`.
    `is_whole`: OpenRouter refused no listing to the key that asked, so that what is not listed is not there.
    """

    keys: frozenset[str] = frozenset()
    deleted: frozenset[str] = frozenset()
    workspaces: frozenset[str] = frozenset()
    organization_id: str | None = None
    credits_total_usd: Decimal | None = None
    credits_used_usd: Decimal | None = None
    is_confirmed: bool = False
    is_rebuild_requested: bool = False
    is_whole: bool = True


def stored_evidence(connection: sa.Connection, account: str) -> Evidence:
    """What is stored of an account; nothing of one that was never published."""
    row = ask(connection, "account_evidence", account=account).one_or_none()
    if row is None:
        return Evidence()
    keys = ask(connection, "account_keys", account_id=row.account_id).all()
    listed = listed_workspaces(connection, account, row.published_run_id)
    return Evidence(
        keys=frozenset(key.key_hash for key in keys if key.deleted_at is None),
        deleted=frozenset(key.key_hash for key in keys if key.deleted_at is not None),
        workspaces=frozenset(key.workspace_id for key in keys if key.workspace_id) | frozenset(listed),
        organization_id=row.organization_id,
        credits_total_usd=row.credits_total_usd,
        credits_used_usd=row.credits_used_usd,
        is_confirmed=row.is_confirmed,
        is_rebuild_requested=row.is_rebuild_requested,
    )


class Holder(NamedTuple):
    """Another account that has some of the keys: how many, one of them by name, and what kind of account it is."""

    account: str
    kind: str | None
    keys: int
    key_name: str
    is_deleted: bool


def holder(connection: sa.Connection, account: str, key_hashes: Collection[str]) -> Holder | None:
    """Who had any of the keys before this account; of two that both have a key already, the older one had it."""
    found = records(Holder, ask(connection, "key_holder", account=account, keys=list(key_hashes)))
    return found[0] if found else None


def closed_months_of_account(connection: sa.Connection, account: str) -> list[date]:
    """The closed months, by their first days, for which companies are charged for usage of the account."""
    return list(ask(connection, "closed_months_of_account", account=account).scalars())


def account_id(connection: sa.Connection, account: str) -> int | None:
    """The account's small id; None for one that was never synced."""
    return ask(connection, "id_of_account", account=account).scalar()


def is_stored(engine: sa.Engine, account: str) -> bool:
    """Whether the warehouse has anything of the account."""
    with engine.connect() as connection:
        return account_id(connection, account) is not None


def is_rebuild_requested(connection: sa.Connection, account: str) -> bool:
    """Whether a rebuild was asked for and not made yet: its publication clears the mark."""
    return bool(ask(connection, "rebuild_requested", account=account).scalar())
