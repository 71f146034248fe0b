"""Why an account's total exceeds its keys': usage that no key explains, by the name that analytics show it under."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql_beside(__file__)
