"""`ref.mapping_version` and `ref.mapping_rule`: the versions of the company mapping; the highest is in force."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.loading import copy_rows
from orcost_pipeline.warehouse.locks import MAPPING_LOCK

RULE_COLUMNS = (
    "line",
    "position",
    "company",
    "match",
    "pattern",
    "account",
    "valid_from",
    "valid_to",
    "share",
    "note",
)


class RuleRow(NamedTuple):
    """One line of a mapping: a company's share, in percent, of what a rule matches."""

    line: int
    position: int
    company: str
    match: str
    pattern: str
    account: str | None
    valid_from: date | None
    valid_to: date | None
    share: Decimal
    note: str | None


class MappingVersion(NamedTuple):
    """A version of the mapping that came into force, and how many rules it changed; None where that was not noted."""

    version: int
    loaded_at: datetime
    source: str
    content_sha256: str
    rule_count: int
    rules_added: int | None
    rules_removed: int | None
    rules_changed: int | None
    rules_moved: int | None


def versions(connection: sa.Connection) -> list[MappingVersion]:
    """Every version there was, the newest first."""
    rows = connection.execute(
        sa.text(f"select {', '.join(MappingVersion._fields)} from ref.mapping_version order by version desc")
    )
    return [MappingVersion(*row) for row in rows]


def version_in_force(connection: sa.Connection, at: datetime | None = None) -> MappingVersion | None:
    """The version in force at an instant; now unless told."""
    row = connection.execute(
        sa.text(
            f"select {', '.join(MappingVersion._fields)} from ref.mapping_version "
            "where loaded_at <= coalesce(cast(:at as timestamptz), 'infinity') order by version desc limit 1"
        ),
        {"at": at},
    ).one_or_none()
    return MappingVersion(*row) if row else None


def rules_in_force(connection: sa.Connection, at: datetime | None = None) -> Sequence[RuleRow]:
    """The lines of the mapping in force, in the order of the file; none where none was ever loaded."""
    version = version_in_force(connection, at)
    return rules_of_version(connection, version.version) if version else []


def rules_of_version(connection: sa.Connection, version: int) -> Sequence[RuleRow]:
    """The lines of a version, in the order of the file."""
    rows: Iterable[Any] = connection.execute(
        sa.text(
            f"select {', '.join(RULE_COLUMNS)} from ref.mapping_rule where version = :version order by position, line"
        ),
        {"version": version},
    )
    return [RuleRow(*row) for row in rows]


def load_version(
    engine: sa.Engine,
    rows: Sequence[RuleRow],
    *,
    source: str,
    sha256: str,
    rule_count: int,
    changed: Callable[[Sequence[RuleRow]], Mapping[str, int]],
    now: datetime,
) -> MappingVersion:
    """Brings a mapping into force; the one in force already, told by its content, is left as it is.

    `changed` counts what it changes against the rows in force: added, removed, changed and moved rules.
    """
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(:kind, 0)"), {"kind": MAPPING_LOCK})
        current = version_in_force(connection)
        if current is not None and current.content_sha256 == sha256:
            return current
        told = {
            "loaded_at": now,
            "source": source,
            "content_sha256": sha256,
            "rule_count": rule_count,
            **{f"rules_{kind}": count for kind, count in changed(rules_in_force(connection)).items()},
        }
        version = connection.execute(
            sa.text(
                f"insert into ref.mapping_version ({', '.join(told)}) values (:{', :'.join(told)}) returning version"
            ),
            told,
        ).scalar_one()
        copy_rows(connection, "ref.mapping_rule", ("version", *RULE_COLUMNS), ((version, *row) for row in rows))
        return MappingVersion(version, **told)
