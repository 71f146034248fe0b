"""`ops.schema_object`: which views, functions and comments a warehouse has, so that only what changed is replaced."""

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.schema.declared import DeclaredSchema

_RECORD = sa.text("select name, content_sha256, arguments from ops.schema_object")
_NOTE = sa.text(
    "insert into ops.schema_object (name, content_sha256, arguments, applied_at) "
    "values (:name, :content_sha256, :arguments, now()) on conflict (name) do update set "
    "content_sha256 = excluded.content_sha256, arguments = excluded.arguments, applied_at = excluded.applied_at"
)
_FORGET = sa.text("delete from ops.schema_object where name = any(:names)")


class Recorded(NamedTuple):
    """What was applied last. arguments: the types of a function's, as Postgres writes them; None for all else."""

    content_sha256: str
    arguments: str | None = None


def read_record(connection: sa.Connection) -> dict[str, Recorded]:
    """Name → what was applied. All that orcost made is there; what is not there belongs to somebody else."""
    return {row.name: Recorded(row.content_sha256, row.arguments) for row in connection.execute(_RECORD)}


def is_applied(connection: sa.Connection, schema: DeclaredSchema) -> bool:
    """Whether the warehouse has the views, functions and comments of the schema, no other and no older ones."""
    return {name: it.content_sha256 for name, it in read_record(connection).items()} == schema.fingerprints()


def note_applied(connection: sa.Connection, name: str, applied: Recorded) -> None:
    """Records what was applied under a name."""
    connection.execute(_NOTE, {"name": name, **applied._asdict()})


def forget(connection: sa.Connection, names: Collection[str]) -> None:
    """Deletes the record of what was dropped for good."""
    connection.execute(_FORGET, {"names": list(names)})
