"""A world whose companies have budgets: the list of companies in force, and the findings of the stored facts."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from orcost_pipeline.companies.company_list import ATTRIBUTES, read_company_list
from orcost_pipeline.health.finding import Code, Finding
from orcost_pipeline.health.standing import read
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.project_file import AlertsConfig, Source
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.company_list import publish_companies
from orcost_pipeline_tests.world import World


def budget(world: World, **budgets: str) -> None:
    """The list of companies with the budget of each in USD, blank for none."""
    lines = ["company,monthly_budget_usd", *(f"{name},{usd}" for name, usd in budgets.items())]
    publish_companies(world.engine, ATTRIBUTES, read_company_list("\n".join(lines).encode(), "companies.csv"))


def found(world: World, *codes: Code, **alerts: Any) -> list[Finding]:
    """The stored findings of these codes, with these fields of `[alerts]`."""
    settings = Settings.model_construct(
        accounts=[world.configured],
        mapping=Source("mapping", Path("company_mapping.csv")),
        alerts=AlertsConfig(**{name: Decimal(value) for name, value in alerts.items()}),
    )
    with world.engine.connect() as connection:
        stored = read(connection, settings, world.now)
    return [it for it in stored_findings(stored, settings, world.now) if it.code in codes]
