"""Findings from the price plans and the exchange rates as they are now, against those in force."""

from collections.abc import Callable, Iterator

from orcost_pipeline.companies.rows import RefusedError
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.health.database import DatabaseCheck
from orcost_pipeline.health.finding import Code, Finding, Severity, correct
from orcost_pipeline.health.standing import is_syncing
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.plans import RATES_STAY, plans_that_stay, read_plans, read_rates
from orcost_pipeline.sync.sources import Connect, UnreadableSourceError, refusal
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
