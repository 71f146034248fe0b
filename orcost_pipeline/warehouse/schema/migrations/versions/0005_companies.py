"""Companies with attributes, what each mapping version changed, spend by creator and workspace."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql_beside(__file__)
