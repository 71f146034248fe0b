"""What OpenRouter does not tell to a valid key, and which hours its analytics do tell."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql_beside(__file__)
