"""What could not be read of an answer, and what a key's limit is measured against."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql_beside(__file__)
