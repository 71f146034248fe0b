"""Alerts that were sent, and how far each of their messages is at each receiver."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_sql_beside(__file__)
