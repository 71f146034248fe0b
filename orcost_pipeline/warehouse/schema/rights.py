"""Owners and grants of views and functions, kept while one is dropped and made again.

`create or replace` keeps them by itself. Grants on a column that is no longer there end with the column.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.schema.namespaces import WAREHOUSE_SCHEMAS

_OBJECTS = sa.text(
    "select 'view' as kind, c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name, "
    "cast(null as text) as arguments, quote_ident(pg_get_userbyid(c.relowner)) as owner, "
    "array(select quote_ident(attname) from pg_attribute where attrelid = c.oid and attnum > 0) as columns "
    "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where c.relkind = 'v' and n.nspname = any(:schemas) union all "
    "select 'function', p.oid, quote_ident(n.nspname) || '.' || quote_ident(p.proname), oidvectortypes(p.proargtypes), "
    "quote_ident(pg_get_userbyid(p.proowner)), '{}' from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
    "where p.prokind = 'f' and n.nspname = any(:schemas)"
)
_GRANTS = sa.text(
    "select held.kind, held.oid, held.column_name, g.privilege_type, g.is_grantable, "
    "case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end as grantee from ("
    "select 'view' as kind, oid, cast(null as text) as column_name, coalesce(relacl, acldefault('r', relowner)) as acl "
    "from pg_class where relkind = 'v' union all "
    "select 'function', oid, null, coalesce(proacl, acldefault('f', proowner)) from pg_proc union all "
    "select 'view', attrelid, quote_ident(attname), attacl from pg_attribute where attacl is not null and attnum > 0"
    ") held cross join aclexplode(held.acl) g where held.oid = any(:oids)"
)


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
    rows = connection.execute(_OBJECTS, {"schemas": list(WAREHOUSE_SCHEMAS)}).all()
    grants: dict[tuple[str, int], set[Grant]] = {(row.kind, row.oid): set() for row in rows}
    for row in connection.execute(_GRANTS, {"oids": [row.oid for row in rows]}):
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
