"""Brings a warehouse to the newest tables, views, functions and comments."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.locks import MIGRATION_LOCK, take_lock
from orcost_pipeline.warehouse.schema.declared import DeclaredSchema, declared_schema
from orcost_pipeline.warehouse.schema.namespaces import OLDEST_MAJOR, WAREHOUSE_SCHEMAS, make_schemas, version_problem
from orcost_pipeline.warehouse.schema.record import schema_as_set
from orcost_pipeline.warehouse.schema.replacement import PATIENCE, Patience, apply_schema, patiently
from orcost_pipeline.warehouse.schema.rights import held_rights

NEWEST = "head"
MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(
    engine: sa.Engine,
    revision: str = NEWEST,
    *,
    schema: DeclaredSchema | None = None,
    patience: Patience = PATIENCE,
    oldest_major: int = OLDEST_MAJOR,
) -> None:
    """Migrates tables to a revision; at the newest, replaces views, functions and comments that differ from `schema`.

    All of it is one transaction: whoever reads the new version also reads the new views, and a failure leaves the
    warehouse as it was. A relation that a query holds is waited for within that transaction; tables are migrated once
    however often the views are tried. Processes that start together do it once.

    A migration that changes a column drops the views that show it (`if exists`: a new warehouse may not have them yet);
    they are made again from their files, with their rights.

    Raises PermanentError for a Postgres before `oldest_major`, and where something that users built depends on what has
    to be dropped; TransientError where a session holds a relation for longer than is waited for.
    """
    with engine.connect() as connection:
        major = int(connection.execute(sa.text("show server_version_num")).scalar_one()) // 10_000
        if problem := version_problem(major, oldest_major):
            raise PermanentError(problem)
        take_lock(connection, MIGRATION_LOCK, "schema")
        make_schemas(connection, WAREHOUSE_SCHEMAS)
        before = held_rights(connection)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        patiently(connection, patience, schema or declared_schema(), lambda: command.upgrade(config, revision))
        if revision == NEWEST:
            apply_schema(connection, schema or schema_as_set(connection), before, patience)
        connection.commit()
