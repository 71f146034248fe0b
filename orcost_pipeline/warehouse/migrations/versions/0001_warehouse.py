"""The whole warehouse: raw, ref, core, marts, ops, and a comment on every relation and column."""

from pathlib import Path
from typing import LiteralString, cast

import psycopg
from alembic import op

from orcost_pipeline.warehouse.migrations.comments import comment_everything

revision = "0001"
down_revision = None


def upgrade() -> None:
    # The driver itself takes a file of many statements; through SQLAlchemy it would be one prepared statement.
    driver = cast(psycopg.Connection, op.get_bind().connection.driver_connection)
    driver.execute(cast(LiteralString, Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")))
    comment_everything(op.get_bind())
