"""Which views, functions and comments a warehouse has, so that they are replaced where their files changed."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_sql_beside(__file__)
