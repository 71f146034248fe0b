"""Findings from the price plans and the exchange rates: as they are written now, and as they are in force."""

from collections.abc import Callable, Iterator

from orcost_pipeline.companies.rows import RefusedError
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.health.database import DatabaseCheck
from orcost_pipeline.health.finding import Code, Finding, Severity, correct
from orcost_pipeline.health.standing import WarehouseState, is_syncing
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.plans import RATES_STAY, plans_that_stay, read_plans, read_rates
from orcost_pipeline.sync.sources import Connect, UnreadableSourceError, refusal
from orcost_pipeline.text import listed
from orcost_pipeline.warehouse.access import database_snapshot


def billing_findings(settings: Settings, check: DatabaseCheck) -> Iterator[Finding]:
    """Problems of the price plans and the exchange rates as they are written now.

    None where this machine does not sync, or where they are a table and the database cannot be reached.
    """
    if not is_syncing(settings):
        return
    stored = check.stored
    version = stored.plans if stored else None
    stays = plans_that_stay(version) if stored or check.is_new else "the current price plans stay active"
    yield from _wrong(settings, Code.PLANS_WRONG, read_plans, stays, is_in_force=version is not None)
    has_rates = stored is not None and stored.has_rates
    yield from _wrong(settings, Code.RATES_WRONG, read_rates, RATES_STAY, is_in_force=has_rates)


def rate_findings(stored: WarehouseState, settings: Settings) -> Iterator[Finding]:
    """Currencies without exchange rate, each with the companies whose statements cannot be made."""
    for it in stored.missing_rates:
        companies = listed(it.companies)
        message = f"There is no exchange rate of {it.currency}: no statement can be made for {companies}."
        todo = f"Add a line with date, {it.currency} and its units per USD to {settings.exchange_rates.name}, then: "
        yield Finding(Severity.WARNING, Code.RATE_MISSING, None, message, f"{todo}orcost sync", subject=it.currency)


def _wrong(
    settings: Settings, code: Code, read: Callable[[Settings, Connect], object], stays: str, *, is_in_force: bool
) -> Iterator[Finding]:
    try:
        read(settings, lambda: database_snapshot(settings))
    except RefusedError as error:
        yield Finding(Severity.ERROR, code, None, refusal(error, stays), correct(settings, code))
    except UnreadableSourceError as error:
        if is_in_force or not error.is_missing:
            yield Finding(Severity.ERROR, code, None, error.sentence(stays), error.todo)
    except OrcostError:
        return  # the database cannot be reached, which `check_database` reports
