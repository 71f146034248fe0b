"""Which run serves which requests for a sync; what finds and purges requests and runs."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_sql_beside(__file__)
