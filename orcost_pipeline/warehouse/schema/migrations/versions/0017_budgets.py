"""Companies have a currency and a monthly budget; views know from which percentage on a limit or budget is near."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_sql_beside(__file__)
