"""`ref.threshold`: the settings that views follow, so that BI sees a limit or a budget as near as findings do."""

from decimal import Decimal

import sqlalchemy as sa

_UPDATE = sa.text(
    "update ref.threshold t "
    "set key_limit_percent = :key_limit, budget_percent = :budget, show_cost = :show_cost from ref.threshold before "
    "where (t.key_limit_percent, t.budget_percent, t.show_cost) <> (:key_limit, :budget, :show_cost) "
    "returning before.show_cost"
)


def publish_thresholds(
    engine: sa.Engine, key_limit_percent: Decimal, budget_percent: Decimal, *, show_cost: bool
) -> int:
    """Makes percentages, and whether viewers see cost, those of the settings; returns the rows written.

    Where viewers are to see cost, or to see it no more, their views are replaced.
    """
    with engine.begin() as connection:
        parameters = {"key_limit": key_limit_percent, "budget": budget_percent, "show_cost": show_cost}
        before = connection.execute(_UPDATE, parameters).scalars().all()
    if before not in ([], [show_cost]):
        # Alembic takes a third of a second to import: only where there is something to replace.
        from orcost_pipeline.warehouse.schema.upgrade import migrate

        migrate(engine)
    return len(before)
