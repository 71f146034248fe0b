"""What companies are charged: price plans, exchange rates, and months that are closed."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run_sql_beside(__file__)
