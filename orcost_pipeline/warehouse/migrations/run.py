"""Brings the schema to the newest version, and its comments to what they are now."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.database import MIGRATION_LOCK, lock
from orcost_pipeline.warehouse.migrations.comments import comment_everything

MINIMUM_VERSION = 15


def migrate(engine: sa.Engine) -> None:
    """Migrates once even when several processes start together; raises PermanentError for a Postgres too old."""
    with engine.connect() as connection:
        major = int(connection.execute(sa.text("show server_version_num")).scalar_one()) // 10_000
        if major < MINIMUM_VERSION:
            raise PermanentError(f"Postgres {major} is too old: orcost needs {MINIMUM_VERSION} or newer.")
        with lock(connection, MIGRATION_LOCK, "schema"):
            connection.execute(sa.text("create schema if not exists ops"))
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            comment_everything(connection)
            connection.commit()
