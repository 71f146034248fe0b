"""`ref.mapping_version` and `ref.mapping_rule`: the versions of the company mapping; the highest is in force."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.database import MAPPING_LOCK, copy_rows

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
    """A version of the mapping that came into force."""

    version: int
    loaded_at: datetime
    source: str
    content_sha256: str
    rule_count: int


def version_in_force(connection: sa.Connection) -> MappingVersion | None:
    row = connection.execute(
        sa.text(
            "select version, loaded_at, source, content_sha256, rule_count from ref.mapping_version "
            "order by version desc limit 1"
        )
    ).one_or_none()
    return MappingVersion(*row) if row else None


def rules_in_force(connection: sa.Connection) -> Sequence[RuleRow]:
    """The lines of the mapping in force, in the order of the file; none where none was ever loaded."""
    rows: Iterable[Any] = connection.execute(
        sa.text(
            f"select {', '.join(RULE_COLUMNS)} from ref.mapping_rule "
            "where version = (select max(version) from ref.mapping_version) order by position, line"
        )
    )
    return [RuleRow(*row) for row in rows]


def load_version(
    engine: sa.Engine, rows: Sequence[RuleRow], *, source: str, sha256: str, rule_count: int, now: datetime
) -> MappingVersion:
    """Brings a mapping into force; the one in force already, told by its content, is left as it is."""
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(:kind, 0)"), {"kind": MAPPING_LOCK})
        current = version_in_force(connection)
        if current is not None and current.content_sha256 == sha256:
            return current
        version = connection.execute(
            sa.text(
                "insert into ref.mapping_version (loaded_at, source, content_sha256, rule_count) "
                "values (:now, :source, :sha256, :rule_count) returning version"
            ),
            {"now": now, "source": source, "sha256": sha256, "rule_count": rule_count},
        ).scalar_one()
        copy_rows(connection, "ref.mapping_rule", ("version", *RULE_COLUMNS), ((version, *row) for row in rows))
        return MappingVersion(version, now, source, sha256, rule_count)
