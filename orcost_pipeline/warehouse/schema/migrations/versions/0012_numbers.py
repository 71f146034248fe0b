"""Accounts are numbered as widely as keys, and numbers that syncs used up in vain are free again."""

from orcost_pipeline.warehouse.schema.migrations.scripts import run_sql_beside

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_sql_beside(__file__)
