"""What stands on a view or function in the catalogue, and dropping it without dropping what users built."""

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.text import LONGEST_VALUE, MOST_NAMES, few, short
from orcost_pipeline.warehouse.statements import statement


class Target(NamedTuple):
    """A view, or a function with the types of its arguments."""

    kind: str
    name: str
    arguments: str | None = None

    def __str__(self) -> str:
        return self.name if self.arguments is None else f"{self.name}({self.arguments})"


def drop_with_ours(connection: sa.Connection, target: Target, ours: Collection[Target]) -> set[str]:
    """Drops a view or function and those of ours that stand on it; returns the names of the latter.

    Raises PermanentError, before anything is dropped, where something that is not ours stands on one of them.
    """
    found = connection.execute(
        statement("schema/catalogue", "dependents"),
        {"catalogue": "pg_class" if target.kind == "view" else "pg_proc", "target": _oid(connection, target)},
    ).all()
    dependents = [
        (Target(row.kind, row.function_name or row.identity, row.arguments), f"{row.kind} {row.identity}")
        for row in found
    ]
    if strangers := [name for dependent, name in dependents if dependent not in ours]:
        named = ", ".join(few([short(name, LONGEST_VALUE) for name in strangers], MOST_NAMES))
        raise PermanentError(
            f"The {target.kind} {target} has to be dropped, but others depend on it: {named}. Nothing was changed.\n"
            "Drop those, run orcost db migrate, and create them again."
        )
    for dependent in [*(it for it, _ in dependents), target]:
        connection.exec_driver_sql(f"drop {dependent.kind} {dependent}")
    return {it.name for it, _ in dependents}


def _oid(connection: sa.Connection, target: Target) -> int:
    to_oid = "to_regclass" if target.kind == "view" else "to_regprocedure"
    return connection.execute(sa.text(f"select {to_oid}(:name)::oid"), {"name": str(target)}).scalar_one()
