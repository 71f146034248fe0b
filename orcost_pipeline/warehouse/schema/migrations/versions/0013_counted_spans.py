"""Relations of a period say where the counters of keys know a sum of several hours rather than each."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_sql_beside(__file__)
