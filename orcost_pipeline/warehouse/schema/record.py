"""`ops.schema_object`: which views, functions and comments a warehouse has, so that only what changed is replaced."""

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.schema.declared import DeclaredSchema, declared_schema
from orcost_pipeline.warehouse.statements import statement

_CATALOGUE = "schema/catalogue"
_SHOWS_COST = sa.text("select show_cost from ref.threshold")


class Recorded(NamedTuple):
    """What was applied last. arguments: the types of a function's, as Postgres writes them; None for all else."""

    content_sha256: str
    arguments: str | None = None


def read_record(connection: sa.Connection) -> dict[str, Recorded]:
    """Name → what was applied. All that orcost made is there; what is not there belongs to somebody else."""
    rows = connection.execute(statement(_CATALOGUE, "record"))
    return {row.name: Recorded(row.content_sha256, row.arguments) for row in rows}


def schema_as_set(connection: sa.Connection) -> DeclaredSchema:
    """What the schema of a warehouse with the newest tables is to be, as its settings say."""
    return declared_schema(shows_cost=connection.execute(_SHOWS_COST).scalar_one())


def is_applied(connection: sa.Connection, schema: DeclaredSchema) -> bool:
    """Whether the warehouse has the views, functions and comments of the schema, no other and no older ones."""
    return {name: it.content_sha256 for name, it in read_record(connection).items()} == schema.fingerprints()


def note_applied(connection: sa.Connection, name: str, applied: Recorded) -> None:
    """Records what was applied under a name."""
    connection.execute(statement(_CATALOGUE, "note_applied"), {"name": name, **applied._asdict()})


def forget(connection: sa.Connection, names: Collection[str]) -> None:
    """Deletes the record of what was dropped for good."""
    connection.execute(statement(_CATALOGUE, "forget"), {"names": list(names)})
