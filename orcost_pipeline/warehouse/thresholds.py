"""`ref.threshold`: the settings that views need, so that BI sees a limit or a budget as near as findings do."""

from decimal import Decimal

import sqlalchemy as sa

_UPDATE = sa.text(
    "update ref.threshold set key_limit_percent = :key_limit, budget_percent = :budget "
    "where (key_limit_percent, budget_percent) <> (:key_limit, :budget)"
)


def publish_thresholds(engine: sa.Engine, key_limit_percent: Decimal, budget_percent: Decimal) -> int:
    """Makes the percentages those of the settings; returns the rows written, 0 where they are the same."""
    with engine.begin() as connection:
        return connection.execute(_UPDATE, {"key_limit": key_limit_percent, "budget": budget_percent}).rowcount
