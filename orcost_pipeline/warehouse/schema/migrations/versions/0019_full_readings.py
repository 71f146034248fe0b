"""When the hours of a day, and the activity of a key, were last read in full."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_sql_beside(__file__)
