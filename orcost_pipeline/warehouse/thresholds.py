"""`ref.threshold`: the settings that views follow, so that BI sees a limit or a budget as near as findings do."""

from decimal import Decimal

import sqlalchemy as sa

from orcost_pipeline.warehouse.statements import change


def publish_thresholds(
    engine: sa.Engine, key_limit_percent: Decimal, budget_percent: Decimal, *, show_cost: bool
) -> int:
    """Makes percentages, and whether viewers see cost, those of the settings; returns the rows written.

    Where viewers are to see cost, or to see it no more, their views are replaced.
    """
    with engine.begin() as connection:
        wanted = {"key_limit": key_limit_percent, "budget": budget_percent, "show_cost": show_cost}
        before = change(connection, "publish_thresholds", **wanted).scalars().all()
    if before not in ([], [show_cost]):
        # Alembic takes a third of a second to import: only where there is something to replace.
        from orcost_pipeline.warehouse.schema.upgrade import migrate

        migrate(engine)
    return len(before)
