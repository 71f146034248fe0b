"""Brings a company mapping into force: `ref.mapping_version`, of which the highest is, and `ref.mapping_rule`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from orcost_pipeline.warehouse.loading import copy_rows
from orcost_pipeline.warehouse.locks import MAPPING_LOCK, hold_lock
from orcost_pipeline.warehouse.questions.mapping import MappingVersion, RuleRow, rules_in_force, version_in_force
from orcost_pipeline.warehouse.statements import change


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
    """Brings a mapping into force; the one in force already, known by its content, is left as it is.

    `changed` counts what it changes against the rows in force: added, removed, changed and moved rules.
    """
    with engine.begin() as connection:
        hold_lock(connection, MAPPING_LOCK)
        current = version_in_force(connection)
        if current is not None and current.content_sha256 == sha256:
            return current
        columns = {
            "loaded_at": now,
            "source": source,
            "content_sha256": sha256,
            "rule_count": rule_count,
            **{f"rules_{kind}": count for kind, count in changed(rules_in_force(connection)).items()},
        }
        version: int = change(connection, "add_mapping_version", **columns).scalar_one()
        copy_rows(connection, "ref.mapping_rule", ("version", *RuleRow._fields), ((version, *row) for row in rows))
        return MappingVersion(version, **columns)
