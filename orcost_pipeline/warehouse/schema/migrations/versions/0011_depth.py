"""Every relation of a period says from when it is known and whether it is whole."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0011"
down_revision = "0009"


def upgrade() -> None:
    run_sql_beside(__file__)
