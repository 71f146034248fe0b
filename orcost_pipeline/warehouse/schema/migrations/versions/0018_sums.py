"""Sums that dashboards ask for: companies by hour, models by month, creators and workspaces by day, rolling totals."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_sql_beside(__file__)
