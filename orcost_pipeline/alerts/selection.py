"""Which findings are sent: those that the sensor can know, that matter by now, and that orcost.toml does not mute."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import sqlalchemy as sa

from orcost_pipeline.alerts.look import OF_THE_KEY, Seen
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.health.automation import DAEMONS, SENSOR_DAEMON
from orcost_pipeline.health.billing import billing_findings
from orcost_pipeline.health.database import DatabaseCheck
from orcost_pipeline.health.finding import Code, Finding, Severity, sync_command
from orcost_pipeline.health.machine import home_findings, key_findings, muted_findings
from orcost_pipeline.health.mapping import REFUSED, company_list_findings, mapping_findings, superseded
from orcost_pipeline.health.standing import Standing, WarehouseState, is_syncing, read
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.settings import Settings

# Findings that concern a user at a terminal; that no sensor can report, because it needs the database itself, which it
# also migrates; and that need a request to OpenRouter, which no sensor sends.
NEVER = frozenset(
    {
        Code.PORT_TAKEN,
        Code.ENV_READABLE,
        Code.ENV_IN_GIT,
        Code.SYNC_RUNNING,
        Code.MAPPING_PENDING,
        Code.DATABASE_UNREACHABLE,
        Code.DATABASE_OLD,
        Code.DATABASE_ENCODING,
        Code.DATABASE_READ_ONLY,
        Code.DATABASE_RIGHTS,
        Code.DATABASE_FULL,
        Code.DISK_FULL,
        Code.ACCESS_TOO_WIDE,
        Code.SCHEMAS_TAKEN,
        Code.SCHEMA_NEWER,
        Code.SCHEMA_OLDER,
        Code.ORDINARY_KEY,
        Code.KEYS_MISSING,
        Code.NO_API_KEYS,
    }
)
# Transient failures: the next sync repairs them, or they become `stale`.
TRANSIENT = frozenset(
    {
        Code.SYNC_FAILED,
        Code.SYNC_DIED,
        Code.OPENROUTER_UNREACHABLE,
        Code.OPENROUTER_REFUSES,
        Code.REQUEST_WAITS,
        Code.NEVER_SYNCED,
        Code.STALE,
    }
)


def seen(connection: sa.Connection, settings: Settings, now: datetime, wrong: Iterable[Finding] = ()) -> Seen:
    """The findings of this instant that become alerts: those that the caller found `wrong`, and those of stored facts
    and the project's files.

    OpenRouter is asked nothing.
    """
    stored = read(connection, settings, now)
    every = (*wrong, *_findings(stored, settings, now), *stale_findings(stored, settings, now))
    found = _without_clock_jump([it for it in every if it.code not in NEVER])
    filtered = [it for it in found if _is_filtered(it, settings)]
    return Seen(
        [it for it in found if it not in filtered],
        filtered,
        frozenset(it.account for it in stored.standings if it.state.status in ("unreachable", "failed")),
        frozenset(it.account for it in stored.standings if _is_spent(it)),
    )


def _without_clock_jump(found: list[Finding]) -> list[Finding]:
    """Without silent daemons where that of sensors is one of them: it runs this look. The clock has jumped, as after a
    machine was suspended, and the daemons will be heard again within the minute."""
    silent = {it.subject for it in found if it.code is Code.SCHEDULE_OFF}
    if SENSOR_DAEMON not in silent:
        return found
    return [it for it in found if it.code is not Code.SCHEDULE_OFF or it.subject not in DAEMONS]


def unusable_settings(error: OrcostError) -> Finding:
    """The finding that the project's files cannot be read as settings."""
    message = f"{error}\nNo sync can start until it is corrected."
    return Finding(Severity.ERROR, Code.SETTINGS, None, message, "Correct it; nothing needs to be restarted")


def _findings(stored: WarehouseState, settings: Settings, now: datetime) -> Iterator[Finding]:
    check = DatabaseCheck(stored=stored)
    of_files = [
        *mapping_findings(settings, check, now),
        *company_list_findings(settings),
        *billing_findings(settings, check),
    ]
    older = REFUSED if is_syncing(settings) else set()
    for finding in stored_findings(stored, settings, now):
        if finding.code not in TRANSIENT | superseded(of_files) | older:
            yield finding
    yield from of_files
    yield from key_findings(settings, {it.account: it for it in stored.standings})
    yield from home_findings(settings)
    yield from muted_findings(settings)


def stale_findings(stored: WarehouseState, settings: Settings, now: datetime) -> Iterator[Finding]:
    """That an account's data is older than `stale_after_hours`, with the error of its last sync.

    Not while the key itself is refused or not set, which is a finding of its own.
    """
    oldest = now - settings.alerts.stale_after
    keyless = {account.name for account in settings.accounts if account.api_key is None}
    for standing in stored.standings:
        since = standing.state.as_of or standing.state.failing_since
        is_explained = _is_refused(standing) or standing.account in keyless
        if standing.is_watched and not is_explained and since is not None and since < oldest:
            yield _stale(standing, since)


def _is_spent(standing: Standing) -> bool:
    return standing.state.balance_usd is not None and standing.state.balance_usd <= 0


def _is_refused(standing: Standing) -> bool:
    return standing.state.status == "invalid_key" or standing.state.error_code in OF_THE_KEY


def _stale(standing: Standing, since: datetime) -> Finding:
    what = f"Costs are complete to {since:%Y-%m-%d %H:%M} UTC only." if standing.state.as_of else "It was never synced."
    sync = sync_command(standing.account)
    todo = f"See in Dagster (Runs, Automation) why no sync ends; to sync once: {sync}"
    if standing.state.status in ("unreachable", "failed") and standing.state.error:
        what += f"\nThe last sync said: {standing.state.error}"
        todo = f"Correct that, then: {sync}"
        if standing.state.status == "unreachable":
            todo = (
                f"See status.openrouter.ai, and this machine's network and database; the next sync catches up: {sync}"
            )
    else:
        what += "\nNo sync has succeeded or failed since."
    return Finding(Severity.ERROR, Code.STALE, standing.account, what, todo, since)


def _is_filtered(finding: Finding, settings: Settings) -> bool:
    order = list(Severity)
    least = order.index(Severity(settings.alerts.severity))
    return finding.code in settings.alerts.mute or order.index(finding.severity) > least
