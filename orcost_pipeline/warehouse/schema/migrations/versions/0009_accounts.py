"""Which OpenRouter account an account is, and what its owner said about that."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_sql_beside(__file__)
