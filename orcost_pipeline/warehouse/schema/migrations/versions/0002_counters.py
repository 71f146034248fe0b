"""Accounts without analytics: what keys had used at the instants that their counters tell of."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql_beside(__file__)
