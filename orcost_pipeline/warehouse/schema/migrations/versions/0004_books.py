"""Books that close: every witness of a day, days that hours and activity do not reach, windows that lack hours."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql_beside(__file__)
