"""`ref.company`: the attributes that the list of companies gives, written where they differ."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from orcost_pipeline.warehouse.loading import copy_rows

_MERGE = """
with named as (
    select company, {attributes}, true as is_listed from listed_company
    union all
    select company, {nulls}, false from ref.company c where not exists (
        select from listed_company t where t.company = c.company
    )
)
insert into ref.company (company, {attributes}, is_listed)
select company, {attributes}, is_listed from named t
where not exists (
    select from ref.company c
    where c.company = t.company
        and ({c_attributes}, c.is_listed) is not distinct from ({t_attributes}, t.is_listed)
)
on conflict (company) do update set {updates}, is_listed = excluded.is_listed
"""


def publish_companies(engine: sa.Engine, attributes: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Makes the attributes those of the list: each row is a company and its `attributes`. Returns the rows written."""

    def of(alias: str) -> str:
        return ", ".join(f"{alias}.{name}" for name in attributes)

    statement = _MERGE.format(
        attributes=", ".join(attributes),
        nulls=", ".join("null" for _ in attributes),
        c_attributes=of("c"),
        t_attributes=of("t"),
        updates=", ".join(f"{name} = excluded.{name}" for name in attributes),
    )
    with engine.begin() as connection:
        columns = f"select company, {', '.join(attributes)} from ref.company with no data"
        connection.exec_driver_sql(f"create temporary table listed_company on commit drop as {columns}")
        copy_rows(connection, "listed_company", ("company", *attributes), rows)
        return connection.execute(sa.text(statement)).rowcount
