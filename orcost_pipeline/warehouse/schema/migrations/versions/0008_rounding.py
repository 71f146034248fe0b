"""Witnesses that cut each request's cost agree with those that do not, and days say by how much they differ."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_sql_beside(__file__)
