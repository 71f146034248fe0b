"""What every migration does: run the SQL file beside it."""

from pathlib import Path
from typing import LiteralString, cast

import psycopg
from alembic import op


def run_sql_beside(migration: str) -> None:
    """Executes the migration's own .sql file, given the migration's `__file__`."""
    # The driver itself takes a file of many statements; through SQLAlchemy it would be one prepared statement.
    driver = cast(psycopg.Connection, op.get_bind().connection.driver_connection)
    driver.execute(cast(LiteralString, Path(migration).with_suffix(".sql").read_text(encoding="utf-8")))
