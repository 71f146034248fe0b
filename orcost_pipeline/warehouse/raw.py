"""`raw.*`: what came over the wire, typed, stamped (account, as_of, run). A relation counts once it is noted as whole.

Usage is committed in parts before that.

An extraction is the set of raw relations that one run, or its retry from failure, wrote for one account. Its id, the
column `run_id` of each relation, is the id of the first of these runs. `raw.extraction` has the instant that all its
questions end at; `complete_as_of` returns it once the extraction can be published.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.loading import MANY_ROWS, analyze, copy_rows
from orcost_pipeline.warehouse.questions.asking import ask
from orcost_pipeline.warehouse.statements import change

STAMP = ("account", "as_of", "run_id")

# Usage, and the questions about it, whose rows come in parts.
USAGE_TABLES = ("usage_question", "usage_hourly", "unkeyed_hour", "usage_daily", "activity_daily")

TABLES = (
    *("extraction", "extracted", "account", "workspace", "organization_member", "api_key"),
    *USAGE_TABLES,
    *("model", "unreadable"),
)

# What must be whole before an extraction may be published.
REQUIRED = frozenset({"account", "workspace", "organization_member", "api_key", "usage_hourly", "activity_daily"})

# Marks of an extraction, beside the relations that it has whole: what OpenRouter does not report to this key; that
# every key was asked for everything; that hours follow from the keys' counters; that it replaces what is stored.
WORKSPACES_REFUSED, MEMBERS_REFUSED = "workspaces_refused", "members_refused"
FULL_PASS, COUNTERS, REBUILD = "full_pass", "counters", "rebuild"


def start_extraction(
    connection: sa.Connection, extraction_id: str, account: str, now: datetime, key_sha256: str | None = None
) -> datetime:
    """The instant (UTC) of an extraction: `now`, to the second, for the first that asks.

    Raises PermanentError where it began with another key: answers of two keys may be those of two accounts.
    """
    change(
        connection,
        "start_extraction",
        extraction_id=extraction_id,
        account=account,
        as_of=now.replace(microsecond=0),
        key_sha256=key_sha256,
    )
    began = ask(connection, "started_extraction", extraction_id=extraction_id, account=account).one()
    if None not in (began.key_sha256, key_sha256) and began.key_sha256 != key_sha256:
        raise PermanentError(f'The key of account "{account}" was changed during the sync. Start a new sync.')
    return began.as_of


def drop_rows(connection: sa.Connection, tables: Iterable[str], *, extraction_id: str, account: str) -> None:
    """Drops the rows of an extraction in each raw table: a step can run twice."""
    for table in tables:
        connection.execute(
            sa.text(f"delete from raw.{table} where run_id = :extraction_id and account = :account"),
            {"extraction_id": extraction_id, "account": account},
        )


def add_rows(
    connection: sa.Connection,
    tables: Mapping[str, tuple[Sequence[str], Iterable[Sequence[Any]]]],
    *,
    extraction_id: str,
    account: str,
    as_of: datetime,
) -> int:
    """Adds rows of an extraction to each raw table; returns how many."""
    count = 0
    for table, (columns, rows) in tables.items():
        stamped = ((account, as_of, extraction_id, *row) for row in rows)
        copied = copy_rows(connection, f"raw.{table}", [*STAMP, *columns], stamped)
        if copied > MANY_ROWS:
            # Rows of a run that statistics do not know would be joined to the keys one by one.
            analyze(connection, f"raw.{table}")
        count += copied
    return count


def replace_unreadable(
    connection: sa.Connection,
    relation: str,
    unreadable: tuple[Sequence[str], Iterable[Sequence[Any]]],
    *,
    extraction_id: str,
    account: str,
    as_of: datetime,
) -> None:
    """Makes the unreadable rows of an extraction, for one raw relation, those given."""
    change(connection, "drop_unreadable", extraction_id=extraction_id, account=account, relation=relation)
    columns, rows = unreadable
    stamped = ((account, as_of, extraction_id, relation, *row) for row in rows)
    copy_rows(connection, "raw.unreadable", [*STAMP, "relation", *columns], stamped)


def set_apart(connection: sa.Connection, extraction_id: str, account: str) -> None:
    """Moves the usage that an interrupted attempt of an extraction has read to an extraction of its own."""
    of_it = {"extraction_id": extraction_id, "account": account}
    if not ask(connection, "has_usage", **of_it).scalar_one():
        return
    apart = f"{extraction_id}/interrupted"
    change(connection, "set_apart", apart=apart, **of_it)
    drop_rows(connection, USAGE_TABLES, extraction_id=apart, account=account)
    for table in USAGE_TABLES:
        connection.execute(
            sa.text(f"update raw.{table} set run_id = :apart where run_id = :extraction_id and account = :account"),
            {"apart": apart, **of_it},
        )


def mark_extracted(
    connection: sa.Connection,
    relations: Iterable[str],
    *,
    extraction_id: str,
    account: str,
    as_of: datetime,
    now: datetime,
    row_count: int,
    requests_made: int,
) -> None:
    """Notes that the relations are whole, in the transaction that made them so."""
    for number, relation in enumerate(relations):
        change(
            connection,
            "mark_extracted",
            extraction_id=extraction_id,
            account=account,
            relation=relation,
            as_of=as_of,
            now=now,
            row_count=row_count,
            # Relations that are read together share their requests: they are counted once.
            requests_made=requests_made if number == 0 else 0,
        )


def complete_as_of(connection: sa.Connection, extraction_id: str, account: str) -> datetime | None:
    """The instant (UTC) of an extraction where every required relation is whole, else None."""
    extracted = _extracted(connection, extraction_id, account)
    return next(iter(extracted.values())) if extracted.keys() >= REQUIRED else None


def is_extracted(connection: sa.Connection, relation: str, extraction_id: str, account: str) -> bool:
    """Whether the extraction has this relation, or mark, whole."""
    return relation in _extracted(connection, extraction_id, account)


def _extracted(connection: sa.Connection, extraction_id: str, account: str) -> Mapping[str, datetime]:
    """The relations, and marks, that the extraction has whole; each with its instant."""
    return {
        row.relation: row.as_of
        for row in ask(connection, "extracted_relations", extraction_id=extraction_id, account=account)
    }


def hours_reported_from(connection: sa.Connection, extraction_id: str, account: str) -> datetime | None:
    """The first hour (UTC) that analytics reported to the extraction; None where they reported none."""
    return ask(connection, "first_covered_hour", extraction_id=extraction_id, account=account).scalar()


def lower_as_of(connection: sa.Connection, extraction_id: str, account: str, until: datetime) -> datetime:
    """Makes an extraction complete to `until` (UTC), but never less than what is published; returns its new instant."""
    until = until.replace(microsecond=0)
    as_of = change(
        connection, "lower_extraction", extraction_id=extraction_id, account=account, until=until
    ).scalar_one()
    change(connection, "lower_extracted", extraction_id=extraction_id, account=account, as_of=as_of)
    for table in USAGE_TABLES:
        connection.execute(
            sa.text(f"update raw.{table} set as_of = :as_of where run_id = :extraction_id and account = :account"),
            {"extraction_id": extraction_id, "account": account, "as_of": as_of},
        )
    return as_of


def latest_extraction(connection: sa.Connection, relation: str, extraction_id: str, account: str) -> str | None:
    """The extraction whose rows of `relation` serve this one: itself, else the newest that has it whole."""
    return ask(
        connection, "latest_extraction", relation=relation, extraction_id=extraction_id, account=account
    ).scalar()


def newest_as_of(connection: sa.Connection, relation: str, account: str, until: datetime) -> datetime | None:
    """When the relation was last read whole, up to an instant; None where it never was."""
    return ask(connection, "newest_as_of", relation=relation, account=account, until=until).scalar()


def purge(connection: sa.Connection, account: str, as_of: datetime, kept: timedelta) -> int:
    """Drops an account's rows from more than `kept` before `as_of`, its own clock; returns how many."""
    count = 0
    for table in TABLES:
        count += connection.execute(
            sa.text(f"delete from raw.{table} where account = :account and as_of < :before"),
            {"account": account, "before": as_of - kept},
        ).rowcount
    return count


def forget_after(connection: sa.Connection, account: str, as_of: datetime) -> None:
    """Drops what an account's runs read in the future of `as_of`, by a wrong clock."""
    for table in TABLES:
        connection.execute(
            sa.text(f"delete from raw.{table} where account = :account and as_of > :as_of"),
            {"account": account, "as_of": as_of},
        )
