"""Owners and grants of views and functions, kept while one is dropped and made again; and what `orcost access` grants.

`create or replace` keeps them by itself. Grants on a column that is no longer there end with the column.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.rights import differing_rights
from orcost_pipeline.warehouse.schema.namespaces import WAREHOUSE_SCHEMAS
from orcost_pipeline.warehouse.statements import statement

_CATALOGUE = "schema/catalogue"


class Grant(NamedTuple):
    """A privilege of one role. column: None where it is on the whole."""

    privilege: str
    column: str | None
    grantee: str
    is_grantable: bool

    def on(self, target: str) -> str:
        column = f" ({self.column})" if self.column else ""
        option = " with grant option" if self.is_grantable else ""
        return f"grant {self.privilege}{column} on {target} to {self.grantee}{option}"


class Held(NamedTuple):
    """Who owns a view or function, and who may use it."""

    kind: str
    oid: int
    name: str
    arguments: str | None
    owner: str
    columns: frozenset[str]
    grants: frozenset[Grant]

    def same_name(self, other: "Held") -> bool:
        return (self.kind, self.name) == (other.kind, other.name)

    def signature(self) -> str:
        return self.name if self.arguments is None else f"{self.name}({self.arguments})"

    def target(self) -> str:
        """As `grant … on` names it."""
        return self.signature() if self.kind == "view" else f"function {self.signature()}"


def held_rights(connection: sa.Connection) -> list[Held]:
    """Owners and grants of every view and function in the schemas of the warehouse, users' own included."""
    rows = connection.execute(statement(_CATALOGUE, "owners"), {"schemas": list(WAREHOUSE_SCHEMAS)}).all()
    grants: dict[tuple[str, int], set[Grant]] = {(row.kind, row.oid): set() for row in rows}
    for row in connection.execute(statement(_CATALOGUE, "grants"), {"oids": [row.oid for row in rows]}):
        grants.get((row.kind, row.oid), set()).add(
            Grant(row.privilege_type, row.column_name, row.grantee, row.is_grantable)
        )
    return [
        Held(
            *(row.kind, row.oid, row.name, row.arguments, row.owner),
            columns=frozenset(row.columns),
            grants=frozenset(grants[row.kind, row.oid]),
        )
        for row in rows
    ]


def restore_rights(connection: sa.Connection, before: Iterable[Held]) -> None:
    """Gives what was dropped and made again its owner and grants of before.

    A function whose arguments changed gets those of the one that it replaces.
    """
    known = {(it.kind, it.oid): it for it in before}
    after = {(it.kind, it.oid): it for it in held_rights(connection)}
    gone = [it for key, it in known.items() if key not in after]
    for made in (it for key, it in after.items() if key not in known):
        same = [it for it in gone if it.same_name(made)]
        of_before = [it for it in same if it.arguments == made.arguments] or same
        if len(of_before) == 1:
            for statement in _restoring(made, of_before[0]):
                connection.exec_driver_sql(statement)


def renew_rights(connection: sa.Connection) -> None:
    """Gives the roles of orcost access, where this database uses them, their rights; takes execution from `public`."""
    for right in differing_rights(connection):
        if right.is_renewed:
            connection.exec_driver_sql(f"{right.statement}")


def _restoring(made: Held, before: Held) -> Iterator[str]:
    wanted = {it for it in before.grants if it.column is None or it.column in made.columns}
    if made.owner != before.owner:
        yield f"alter {made.kind} {made.signature()} owner to {before.owner}"
    elif made.grants == wanted:
        return
    for grantee in sorted({it.grantee for it in made.grants} | {before.owner}):
        yield f"revoke all on {made.target()} from {grantee}"
    for grant in sorted(wanted, key=lambda it: (it.column or "", it)):
        yield grant.on(made.target())
