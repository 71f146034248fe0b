"""What stands on a view or function in the catalogue, and dropping it without dropping what users built."""

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.text import LONGEST_VALUE, MOST_NAMES, few, short

# In the catalogue a view depends on another by its rule _RETURN, and a function on the type of a view's rows.
_DEPENDENTS = sa.text(
    """
    with recursive dependent as (
        select cast(:catalogue as regclass)::oid as classid, cast(:target as oid) as objid, 0 as objsubid, 0 as depth
        union
        select coalesce(case when r.oid is not null then 'pg_class'::regclass::oid end, p.classid),
            coalesce(r.ev_class, p.objid), case when r.oid is null then p.objsubid else 0 end, d.depth + 1
        from dependent d
        join pg_depend p on p.refclassid = d.classid and p.refobjid = d.objid
        left join pg_rewrite r on p.classid = 'pg_rewrite'::regclass and r.oid = p.objid and r.rulename = '_RETURN'
        where d.objsubid = 0 and r.ev_class is distinct from d.objid
    )
    select i.type as kind, i.identity, n.nspname || '.' || f.proname as function_name,
        oidvectortypes(f.proargtypes) as arguments, max(d.depth) as depth
    from dependent d
    cross join lateral pg_identify_object(d.classid, d.objid, d.objsubid) i
    left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
    left join pg_proc f on d.classid = 'pg_proc'::regclass and f.oid = d.objid
    left join pg_namespace n on n.oid = f.pronamespace
    where d.depth > 0 and d.classid <> 'pg_type'::regclass and coalesce(c.relkind not in ('i', 't'), true)
    group by 1, 2, 3, 4
    order by max(d.depth) desc
    """
)


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
        _DEPENDENTS,
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
