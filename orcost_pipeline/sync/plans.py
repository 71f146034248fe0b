"""Price plans and exchange rates: as they are written now, and what is doubtful in them.

No Dagster here: the assets call these functions.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa

from orcost_pipeline.billing.doubts import DAYS, doubts
from orcost_pipeline.billing.exchange_rates import ExchangeRates, read_exchange_rates
from orcost_pipeline.billing.price_plans import PricePlans, PricePlansError, read_price_plans
from orcost_pipeline.companies.company_list import Company
from orcost_pipeline.companies.mapping import Mapping
from orcost_pipeline.companies.rows import Mistake, RefusedError
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.mapping_source import read_companies, valid_mapping
from orcost_pipeline.sync.sources import (
    NOTHING,
    Connect,
    Outcome,
    UnreadableSourceError,
    content_sha256,
    read_content,
    read_now,
)
from orcost_pipeline.warehouse.questions.accounts import outdated_accounts
from orcost_pipeline.warehouse.questions.mapping import rules_in_force, version_in_force
from orcost_pipeline.warehouse.questions.plans import (
    PlanRow,
    PlanVersion,
    companies_on_statements,
    companies_with_usage,
    exchange_rates,
    has_rates,
    plan_version_in_force,
    used_models,
)
from orcost_pipeline.windows import DAY, utc_day

RATES_STAY = "the exchange rates stay as last read"


def plans_that_stay(version: PlanVersion | None) -> str:
    """What plans that cannot be used leave as it is, as a clause; `version` is the one in force, if any."""
    return f"the price plans of {version.loaded_at:%Y-%m-%d} stay active" if version else "usage is charged at cost"


def read_plans(settings: Settings, connect: Connect) -> PricePlans:
    """The price plans as they are written now. Raises PricePlansError for invalid ones, UnreadableSourceError where
    they are missing or cannot be read."""
    return read_price_plans(read_content(settings.price_plans, connect), settings.price_plans.name)


def read_rates(settings: Settings, connect: Connect) -> ExchangeRates:
    """The exchange rates as they are written now. Raises ExchangeRatesError for invalid ones, UnreadableSourceError
    where they are missing or cannot be read."""
    return read_exchange_rates(read_content(settings.exchange_rates, connect), settings.exchange_rates.name)


def read_plans_now(settings: Settings, engine: sa.Engine) -> Outcome[PricePlans]:
    """The price plans, or the problem with them; neither where there are none and never were. Raises database
    errors."""
    with engine.connect() as connection:
        version = plan_version_in_force(connection)
    stays, is_in_force = plans_that_stay(version), version is not None
    return read_now(lambda: read_plans(settings, engine.connect), stays, is_in_force=is_in_force)


def read_rates_now(settings: Settings, engine: sa.Engine) -> Outcome[ExchangeRates]:
    """The exchange rates, or the problem with them; neither where there are none and never were. Raises database
    errors."""
    with engine.connect() as connection:
        is_in_force = has_rates(connection)
    return read_now(lambda: read_rates(settings, engine.connect), RATES_STAY, is_in_force=is_in_force)


def not_charged(settings: Settings, connection: sa.Connection) -> list[str]:
    """The configured accounts whose usage is not charged by the plans in force: a sync loaded these, and failed."""
    configured = {account.name for account in settings.accounts}
    return [name for name, it in outdated_accounts(connection).items() if it.lacks_plans and name in configured]


def not_in_force(settings: Settings, connection: sa.Connection, connect: Connect) -> list[str]:
    """Which of mapping, price plans, exchange rates and list of companies are written otherwise than they are in force,
    as messages name them: edited since the last sync, or refused by it. Of the list, what statements say counts. What
    cannot be read here is kept elsewhere, and not among them, but for the list.
    """
    versions = version_in_force(connection), plan_version_in_force(connection)
    found = [
        source.name
        for source, version in zip((settings.mapping, settings.price_plans), versions, strict=True)
        if content_sha256(source, connect) not in (NOTHING, version.content_sha256 if version else NOTHING)
    ]
    if _has_other_rates(settings, connection, connect):
        found.append(settings.exchange_rates.name)
    if _has_other_companies(settings, connection):
        found.append(settings.companies.name)
    return found


def _has_other_rates(settings: Settings, connection: sa.Connection, connect: Connect) -> bool:
    try:
        written = {tuple(rate) for rate in read_rates(settings, connect).rows}
    except UnreadableSourceError:
        return False
    except RefusedError:
        return True
    return written != exchange_rates(connection)


def _has_other_companies(settings: Settings, connection: sa.Connection) -> bool:
    companies, problem = read_companies(settings)
    if companies is None:
        return problem is not None
    told = {(it.company, it.display_name, it.external_id, it.currency) for it in companies}
    return {it for it in told if any(it[1:])} != companies_on_statements(connection)


def plan_warnings(settings: Settings, connection: sa.Connection, connect: Connect, now: datetime) -> list[str]:
    """Warnings about the price plans as they are written now, each with file and line; none for invalid ones, which
    runs report. Raises database errors."""
    try:
        plans = read_plans(settings, connect)
    except (PricePlansError, UnreadableSourceError):
        return []
    companies, _ = read_companies(settings)
    doubted = plan_doubts(connection, plans.rows, valid_mapping(settings, connect), companies, now)
    return [f"{plans.source}, {warning}" for warning in [*plans.warnings, *doubted]]


def plan_doubts(
    connection: sa.Connection,
    rows: Sequence[PlanRow],
    mapping: Mapping | None,
    companies: Iterable[Company] | None,
    now: datetime,
) -> list[Mistake]:
    """Warnings about rows for models without recent usage, and for unknown companies.

    Known are those of the mapping as it is written and in force, of the list of companies, and with usage.
    """
    known = {*companies_with_usage(connection), *(row.company for row in rules_in_force(connection))}
    known |= {share.company for rule in (mapping.rules if mapping else ()) for share in rule.shares}
    known |= {company.company for company in companies or ()}
    first = utc_day(now) - DAYS * DAY
    return doubts(rows, used_models(connection, first), known, first)
