"""Brings price plans into force (`ref.price_plan_version`, of which the highest is), and exchange rates."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa

from orcost_pipeline.warehouse.loading import copy_rows
from orcost_pipeline.warehouse.locks import PLANS_LOCK, RATES_LOCK, hold_lock
from orcost_pipeline.warehouse.questions.plans import PlanRow, PlanVersion, plan_version_in_force
from orcost_pipeline.warehouse.statements import change


def load_plans(engine: sa.Engine, rows: Sequence[PlanRow], *, source: str, sha256: str, now: datetime) -> PlanVersion:
    """Brings price plans into force; those in force already, known by their content, are left as they are.

    Companies that they name are companies from then on, with or without keys.
    """
    with engine.begin() as connection:
        hold_lock(connection, PLANS_LOCK)
        current = plan_version_in_force(connection)
        if current is not None and current.content_sha256 == sha256:
            return current
        columns = {"loaded_at": now, "source": source, "content_sha256": sha256, "row_count": len(rows)}
        version: int = change(connection, "add_plan_version", **columns).scalar_one()
        copy_rows(connection, "ref.price_plan", ("version", *PlanRow._fields), ((version, *row) for row in rows))
        change(connection, "name_plan_companies", version=version)
        return PlanVersion(version, **columns)


def load_rates(engine: sa.Engine, rows: Iterable[Sequence[object]]) -> int:
    """Makes the exchange rates those of `rows` (date, currency, units per USD). Returns how many were written or
    removed."""
    with engine.begin() as connection:
        hold_lock(connection, RATES_LOCK)
        change(connection, "listed_rate")
        copy_rows(connection, "listed_rate", ("date", "currency", "per_usd"), rows)
        return change(connection, "drop_rates").rowcount + change(connection, "publish_rates").rowcount
