"""Brings the schema to the newest version, and its comments to what they are now."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.database import MIGRATION_LOCK, take_lock
from orcost_pipeline.warehouse.migrations.comments import comment_everything
from orcost_pipeline.warehouse.schemas import WAREHOUSE_SCHEMAS, make_schemas

MINIMUM_VERSION = 15
NEWEST = "head"


def migrate(engine: sa.Engine, revision: str = NEWEST) -> None:
    """Migrates once even when several processes start together; raises PermanentError for a Postgres too old."""
    with engine.connect() as connection:
        major = int(connection.execute(sa.text("show server_version_num")).scalar_one()) // 10_000
        if major < MINIMUM_VERSION:
            raise PermanentError(f"Postgres {major} is too old: orcost needs {MINIMUM_VERSION} or newer.")
        take_lock(connection, MIGRATION_LOCK, "schema")
        make_schemas(connection, WAREHOUSE_SCHEMAS)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if revision == NEWEST:
            comment_everything(connection)
        connection.commit()
