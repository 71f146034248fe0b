"""Statements of months that were closed and opened again."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    run_sql_beside(__file__)
