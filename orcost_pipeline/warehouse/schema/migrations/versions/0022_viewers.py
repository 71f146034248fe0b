"""Which companies each viewer may see."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0022"
down_revision = "0019"


def upgrade() -> None:
    run_sql_beside(__file__)
