"""The whole warehouse: raw, ref, core, marts, ops, and a comment on every relation and column."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql_beside(__file__)
