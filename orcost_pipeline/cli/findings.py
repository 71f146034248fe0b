"""What is wrong: the notion of a finding that `orcost status` and `orcost doctor` share, and those of the warehouse.

Belongs here: from stored rows to findings, how findings are ordered and told. Stays out: asking live (`doctor.py`).
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from rich.text import Text

from orcost_pipeline.cli.rendering import age, clock, rounded, share
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import message, plural
from orcost_pipeline.warehouse import reports
from orcost_pipeline.warehouse.deployment import serving
from orcost_pipeline.warehouse.mappings import MappingVersion, version_in_force
from orcost_pipeline.warehouse.reports import KnownKeys, RecentSpend, RunningSync, UnreadableRows, WaitingRequest
from orcost_pipeline.windows import ACTIVITY_DAYS, DAY, STALE_AFTER, day_start, is_future, utc_day

FEW_DAYS_LEFT = 3
NAMED_DAYS = 3
REQUESTS_WAIT = timedelta(minutes=2)
NOT_ITS_KEY = (
    "Put this account's own key back (orcost init), or add this key as a new account (orcost init --name NAME); then: "
)
_ONE_NAME = "Keep one of the two (orcost accounts rename, orcost accounts forget), then: "
BUY_CREDITS = "Buy credits: openrouter.ai/settings/credits"


class Severity(StrEnum):
    """An error: costs do not come in or cannot be trusted, or a secret is out. A warning: in part, or soon. A note:
    good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


ERROR, WARNING, NOTE = Severity


class Code(StrEnum):
    """What kinds of finding there are; of the same severity, those further up are worse."""

    SETTINGS = "settings"
    NO_KEY = "no_key"
    INVALID_KEY = "invalid_key"
    OTHER_ACCOUNT = "other_account"
    ACCOUNT_TWICE = "account_twice"
    OPENROUTER_REFUSES = "openrouter_refuses"
    OPENROUTER_UNREACHABLE = "openrouter_unreachable"
    DATABASE_UNREACHABLE = "database_unreachable"
    DATABASE_OLD = "database_old"
    DATABASE_ENCODING = "database_encoding"
    SCHEMAS_TAKEN = "schemas_taken"
    DATABASE_READ_ONLY = "database_read_only"
    DATABASE_RIGHTS = "database_rights"
    DATABASE_FULL = "database_full"
    SCHEMA_NEWER = "schema_newer"
    HOME_UNUSABLE = "home_unusable"
    DISK_FULL = "disk_full"
    CLOCK_OFF = "clock_off"
    NO_CREDITS = "no_credits"
    CREDITS_LOW = "credits_low"
    SYNC_FAILED = "sync_failed"
    NEVER_SYNCED = "never_synced"
    STALE = "stale"
    SWITCHED_OFF = "switched_off"
    MAPPING_WRONG = "mapping_wrong"
    MAPPING_GONE = "mapping_gone"
    SYNC_DIED = "sync_died"
    DAYS_OPEN = "days_open"
    UNREADABLE_ROWS = "unreadable_rows"
    REQUEST_WAITS = "request_waits"
    PORT_TAKEN = "port_taken"
    WORKSPACES_UNKNOWN = "workspaces_unknown"
    KEYS_MISSING = "keys_missing"
    NO_API_KEYS = "no_api_keys"
    NO_MAPPING = "no_mapping"
    UNATTRIBUTED = "unattributed"
    MEMBERS_UNKNOWN = "members_unknown"
    MAPPING_DOUBTFUL = "mapping_doubtful"
    ENV_READABLE = "env_readable"
    ENV_IN_GIT = "env_in_git"
    SYNC_RUNNING = "sync_running"
    ORDINARY_KEY = "ordinary_key"
    SCHEMA_OLDER = "schema_older"
    MAPPING_PENDING = "mapping_pending"
    NO_USAGE = "no_usage"
    NOT_CONFIGURED = "not_configured"


@dataclass(frozen=True)
class Finding:
    """Something that a person should mend or know: of which account (None: of none), since when, and what to do."""

    severity: Severity
    code: Code
    account: str | None
    message: str
    todo: str
    since: datetime | None = None


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    severities, codes = list(Severity), list(Code)
    return sorted(found, key=lambda it: (severities.index(it.severity), codes.index(it.code), it.account or ""))


def exit_code(found: Iterable[Finding]) -> int:
    """1 where there is an error."""
    return int(any(finding.severity is ERROR for finding in found))


# How they are told


def lines(found: Sequence[Finding], now: datetime, all_is_well: str) -> Iterator[Text]:
    """Each finding with what to do; where none is worse than a note, first that all is well."""
    if all(finding.severity is NOTE for finding in found):
        yield Text(all_is_well, style="green")
    styles = {ERROR: "bold red", WARNING: "yellow", NOTE: ""}
    for finding in found:
        first, *more = message(finding.message).splitlines()
        about = f"{finding.account}: " if finding.account else ""
        yield Text(f"{finding.severity:<8} {about}{first}", style=styles[finding.severity])
        yield from (Text(f"  {line.strip()}") for line in more)
        if finding.since:
            yield Text(f"  since {clock(finding.since, now)} ({age(now - finding.since)})")
        yield Text(f"  → {finding.todo}")


def as_data(found: Iterable[Finding]) -> list[dict[str, Any]]:
    return [
        {name: getattr(finding, name) for name in ("severity", "code", "account", "since", "message", "todo")}
        for finding in found
    ]


# What the warehouse knows of an account


@dataclass(frozen=True)
class Standing:
    """What is known of an account; of one that was never tried, its name only.

    `is_accepted` is whether OpenRouter accepted its key just now; None where nobody asked. `is_spending` is whether any
    of its keys was heard to spend within a day, besides what is stored.
    """

    account: str
    is_watched: bool = True
    is_accepted: bool | None = None
    kind: str | None = None
    status: str | None = None
    error: str | None = None
    error_code: str | None = None
    as_of: datetime | None = None
    last_success_at: datetime | None = None
    failing_since: datetime | None = None
    last_run_status: str | None = None
    last_run_error: str | None = None
    last_run_at: datetime | None = None
    balance_usd: Decimal | None = None
    workspaces_refused_since: datetime | None = None
    members_refused_since: datetime | None = None
    credits_total_usd: Decimal | None = None
    open_days: Sequence[date] = ()
    unreadable: Sequence[UnreadableRows] = ()
    spend: RecentSpend = field(default_factory=RecentSpend)
    keys: KnownKeys = field(default_factory=KnownKeys)
    running: RunningSync | None = None
    has_rules: bool = False
    is_spending: bool = False

    @property
    def is_prepaid(self) -> bool:
        """Whether it lives on credits: they were bought, and nothing is spent without any. Others are invoiced."""
        if self.balance_usd is None or not self.credits_total_usd or self.credits_total_usd < 0:
            return False
        return self.balance_usd > 0 or not (self.is_spending or self.spend.spend_24h_usd > 0)

    @property
    def unattributed_share(self) -> Decimal | None:
        return self.spend.unattributed_30d_usd / self.spend.spend_30d_usd if self.spend.spend_30d_usd else None

    @property
    def days_left(self) -> int | None:
        """How long the balance lasts at the pace of the last 7 days; None beyond ten years, which is no forecast."""
        if self.balance_usd is None or not self.is_prepaid or self.spend.spend_7d_usd <= 0:
            return None
        days = max(0, int(self.balance_usd * 7 / self.spend.spend_7d_usd))
        return days if days <= 3_650 else None


@dataclass(frozen=True)
class WarehouseState:
    """All that the warehouse says about how things stand."""

    standings: Sequence[Standing]
    mapping: MappingVersion | None
    waiting: Sequence[WaitingRequest]
    switched_off: Sequence[str] = ()

    @property
    def lacks_rules(self) -> bool:
        """Whether there is spend of the last 30 days, and no rule in force that could give it to a company."""
        has_rules = self.mapping is not None and self.mapping.rule_count > 0
        return not has_rules and any(it.spend.spend_30d_usd or it.spend.byok_30d_usd for it in self.standings)


def is_syncing(settings: Settings) -> bool:
    """Whether this machine has any key; without one it reads what another machine syncs."""
    return any(account.api_key is not None for account in settings.accounts)


def read(connection: sa.Connection, settings: Settings, now: datetime) -> WarehouseState:
    """What is stored, read from one state of the warehouse."""
    mapping = version_in_force(connection)
    has_rules = mapping is not None and mapping.rule_count > 0
    standings = _read_standings(connection, settings, has_rules=has_rules)
    waiting = reports.waiting_requests(connection, now - REQUESTS_WAIT)
    # Without an orcost up that is no news: the next one switches them on.
    switched_off = reports.stopped_automation(connection) if serving(connection) else ()
    return WarehouseState(standings, mapping, waiting, switched_off)


def _read_standings(connection: sa.Connection, settings: Settings, *, has_rules: bool) -> list[Standing]:
    """Every account with costs in the warehouse, and those that are configured."""
    rows = reports.accounts(connection)
    days, spend, keys = reports.open_days(connection), reports.recent_spend(connection), reports.known_keys(connection)
    running, unreadable = reports.running_syncs(connection), reports.unreadable_rows(connection)
    configured = {account.name for account in settings.accounts}
    known = [
        Standing(
            **{name: getattr(row, name) for name in _STORED},
            is_watched=not is_syncing(settings) or row.account in configured,
            open_days=days.get(row.account, ()),
            unreadable=unreadable.get(row.account, ()),
            spend=spend.get(row.account, RecentSpend()),
            keys=keys.get(row.account, KnownKeys()),
            running=running.get(row.account),
            has_rules=has_rules,
        )
        for row in rows
        if row.as_of or row.account in configured or not is_syncing(settings)
    ]
    # Without any key, beside accounts that others sync, what is configured here (`default`, as a rule) is nobody's.
    untried = sorted(configured - {row.account for row in rows}) if is_syncing(settings) or not rows else []
    return [*known, *(Standing(name) for name in untried)]


_STORED = (
    "account",
    "kind",
    "status",
    "error",
    "error_code",
    "as_of",
    "last_success_at",
    "failing_since",
    "last_run_status",
    "last_run_error",
    "last_run_at",
    "balance_usd",
    "workspaces_refused_since",
    "members_refused_since",
    "credits_total_usd",
)


# What is wrong


def of_stored(
    stored: WarehouseState, settings: Settings, now: datetime, is_up: bool | None = None
) -> Iterator[Finding]:
    """The findings of the warehouse. `is_up`: whether orcost up answers on this machine; None where nobody asked."""
    for standing in stored.standings:
        yield from _of_standing(standing, settings, now, is_up)
    if stored.lacks_rules:
        yield no_mapping(settings, WARNING)
    yield from map(_of_automation, stored.switched_off)
    if stored.waiting:
        first, others = stored.waiting[0], len(stored.waiting) - 1
        who = f"Sync request {first.id} and {others} more wait" if others else f"Sync request {first.id} waits"
        message, todo = f"{who} for the deployment. Is orcost up running?", "orcost up, where the deployment runs"
        yield Finding(WARNING, Code.REQUEST_WAITS, first.account, message, todo, first.requested_at)


def no_mapping(settings: Settings, severity: Severity) -> Finding:
    """That there is no rule, which is a warning once there is spend."""
    todo = "orcost map suggest proposes rules from what is synced; "
    if settings.mapping_table:
        todo += f"put those that are right into {settings.mapping_name}"
    else:
        todo += f'take one with: orcost map add COMPANY key_name "PATTERN", or write it into {settings.mapping}'
    return Finding(severity, Code.NO_MAPPING, None, "No mapping rules yet; all spend is Unattributed.", todo)


def _of_automation(name: str) -> Finding:
    """That a schedule or sensor of a running `orcost up` is off: without the hourly schedule no costs come in."""
    lacking = {"hourly_schedule": "nothing is synced by the hour", "mapping_change_sensor": "a changed mapping waits"}
    message = f"{name} is switched off in Dagster: {lacking.get(name, 'Sync Now does nothing')}."
    todo = "Switch it on in Dagster (Automation), or start orcost up anew"
    return Finding(ERROR if name == "hourly_schedule" else WARNING, Code.SWITCHED_OFF, None, message, todo)


def _of_standing(standing: Standing, settings: Settings, now: datetime, is_up: bool | None) -> Iterator[Finding]:
    if not standing.is_watched:
        message = "This account is not configured here: what is stored stays, and nothing new comes in."
        todo = "Nothing, if that is meant; else name it in orcost.toml as it was called, or: orcost accounts rename"
        yield Finding(NOTE, Code.NOT_CONFIGURED, standing.account, message, todo, standing.as_of)
        return
    yield from _arrival(standing, now, is_up)
    yield from _last_run(standing, settings)
    yield from _open_days(standing)
    yield from _refused_listings(standing)
    yield from _unreadable(standing)
    yield from of_credits(standing)
    yield from _attribution(standing, settings)
    yield from _usage(standing)


def _arrival(standing: Standing, now: datetime, is_up: bool | None) -> Iterator[Finding]:
    """Whether costs come in."""
    name, sync = standing.account, _sync(standing)
    if standing.as_of is not None and is_future(standing.as_of, now) and standing.error_code != Code.CLOCK_OFF:
        message = f"Data is marked complete until {clock(standing.as_of, now)}, in the future: a sync ran with a wrong "
        message += "clock.\nUntil the next good sync, figures of the last hours and days lack what was spent in them."
        yield Finding(ERROR, Code.CLOCK_OFF, name, message, f"Set the clock by NTP, then: {sync}, which puts it right")
    is_running = standing.running is not None and standing.running.is_alive
    if standing.status not in (None, "ok"):
        yield from _refusal(standing)
    elif standing.as_of is None:
        if not is_running and standing.is_accepted is not False:
            yield Finding(ERROR, Code.NEVER_SYNCED, name, "It was never synced.", sync)
    elif now - standing.as_of > STALE_AFTER:
        told = {None: "Is orcost up running?", True: "orcost up is running.", False: "orcost up is not running here."}
        message = f"Nothing newer than {clock(standing.as_of, now)} came in. {told[is_up]}"
        todo = f"orcost up (every hour), or once: {sync}" if is_up is False else sync
        yield Finding(ERROR, Code.STALE, name, message, todo, standing.as_of)


def _refusal(standing: Standing) -> Iterator[Finding]:
    """Why the last sync failed, unless OpenRouter's refusal was just heard live."""
    if standing.is_accepted is False and standing.status in ("invalid_key", "unreachable"):
        return
    what = {"invalid_key": "OpenRouter refused its key.", "failed": "The last sync failed."}
    status = standing.status or ""
    message = standing.error or what.get(status, "OpenRouter or the database could not be reached.")
    code = Code.INVALID_KEY if status == "invalid_key" else Code(standing.error_code or Code.SYNC_FAILED)
    if standing.is_accepted and (code is Code.CLOCK_OFF or status in ("invalid_key", "unreachable")):
        code = Code.SYNC_FAILED
        message = f"The last sync failed; OpenRouter accepts the key now. It had said:\n{message}"
    todo = {Code.OTHER_ACCOUNT: NOT_ITS_KEY, Code.ACCOUNT_TWICE: _ONE_NAME}.get(code, "") + _sync(standing)
    yield Finding(ERROR, code, standing.account, message, todo, standing.failing_since)


def _last_run(standing: Standing, settings: Settings) -> Iterator[Finding]:
    name, at = standing.account, standing.last_run_at
    if standing.last_run_error and standing.last_run_status == "succeeded":
        todo = f"{map_check(settings)}, then: {_sync(standing)}"
        yield Finding(ERROR, Code.MAPPING_WRONG, name, standing.last_run_error, todo, at)
    if standing.running and standing.running.is_alive:
        message, todo = "It is being synced.", "Wait for it; another sync would wait too"
        yield Finding(NOTE, Code.SYNC_RUNNING, name, message, todo, standing.running.started_at)
    elif standing.running:
        message, at = "A sync began and its process died; nothing was lost.", standing.running.started_at
        yield Finding(WARNING, Code.SYNC_DIED, name, message, _sync(standing), at)
    elif standing.last_run_status == "abandoned":
        message = "The last sync died before it was done; nothing was lost."
        yield Finding(WARNING, Code.SYNC_DIED, name, message, _sync(standing), at)


def _open_days(standing: Standing) -> Iterator[Finding]:
    """Days that do not add up: those that OpenRouter still tells can be asked again, older ones only be known."""
    days = standing.open_days
    if not days or standing.as_of is None:
        return
    first_told = utc_day(standing.as_of) - ACTIVITY_DAYS * DAY
    recent = [day for day in days if day >= first_told]
    told = f"{plural(len(days), 'day')} (first {days[0]})" if len(days) > 1 else f"{days[0]}"
    lacking = {day for rows in standing.unreadable for day in rows.days}
    is_lacking = lacking.issuperset(days)
    message = (
        f"A row of {told} could not be read." if is_lacking else f"Hours, activity and keys disagree about {told}."
    )
    severity = ERROR if recent else NOTE
    todo = (
        f"{_sync(standing)} --since {recent[0]}"
        if recent
        else f"Too old to be asked again; see its cause: orcost reconcile --day {days[0]}"
    )
    yield Finding(severity, Code.DAYS_OPEN, standing.account, message, todo, day_start(days[0]))


def _refused_listings(standing: Standing) -> Iterator[Finding]:
    """What OpenRouter does not tell to the account's key, although it is valid."""
    another = "To have it told: a management key whose owner may see it, then orcost init. Costs come in as they are"
    if standing.workspaces_refused_since:
        message = (
            "OpenRouter does not tell this key all workspaces or their keys: keys may be missing, and what they spend "
            "has no key.\nWhat is known of workspaces and keys stays as last told."
        )
        since = standing.workspaces_refused_since
        yield Finding(WARNING, Code.WORKSPACES_UNKNOWN, standing.account, message, another, since)
    if standing.members_refused_since:
        message = "OpenRouter does not tell this key the members: e-mails of keys' creators stay as last known."
        yield Finding(WARNING, Code.MEMBERS_UNKNOWN, standing.account, message, another, standing.members_refused_since)


def _unreadable(standing: Standing) -> Iterator[Finding]:
    """What OpenRouter said that cannot be read, by endpoint and field."""
    if not standing.unreadable:
        return
    by_endpoint = groupby(standing.unreadable, key=lambda it: it.endpoint)
    told = [f"{endpoint}: {', '.join(_lacking(it) for it in fields)}" for endpoint, fields in by_endpoint]
    count = plural(sum(it.rows for it in standing.unreadable), "field")
    message = "\n".join([f"{count} of OpenRouter's answers could not be read and were left out:", *told])
    todo = f"{_sync(standing)} asks again; if it stays, see whether there is a newer orcost_pipeline"
    since = min(it.noticed_at for it in standing.unreadable)
    yield Finding(WARNING, Code.UNREADABLE_ROWS, standing.account, message, todo, since)


def _lacking(rows: UnreadableRows) -> str:
    """A field, and the days whose figures lack it."""
    days = [f"{day}" for day in rows.days[:NAMED_DAYS]]
    if len(rows.days) > NAMED_DAYS:
        days.append(f"{len(rows.days) - NAMED_DAYS} more")
    return f"{rows.field} ({', '.join(days)})" if days else rows.field


def of_credits(standing: Standing) -> Iterator[Finding]:
    """Whether what was bought is used up, or soon will be."""
    balance, name = standing.balance_usd, standing.account
    if balance is None or not standing.is_prepaid:
        return
    days = standing.days_left
    if balance <= 0:
        message = f"No credits left ({rounded(balance, 2)} USD): OpenRouter refuses all but free models."
        yield Finding(ERROR, Code.NO_CREDITS, name, message, BUY_CREDITS)
    elif days is not None and days < FEW_DAYS_LEFT:
        lasts = f"{plural(days, 'day')}" if days else "less than a day"
        message = f"{rounded(balance, 2)} USD of credits are left: {lasts}, at the pace of the last 7 days."
        yield Finding(WARNING, Code.CREDITS_LOW, name, message, BUY_CREDITS)


def _attribution(standing: Standing, settings: Settings) -> Iterator[Finding]:
    """Whether much of the money has no owner; without any rule all of it has none, which `no_mapping` says."""
    spend, parts = standing.spend, []
    for part, whole, unit in (
        (spend.unattributed_30d_usd, spend.spend_30d_usd, "USD"),
        (spend.unattributed_byok_30d_usd, spend.byok_30d_usd, "USD of BYOK"),
    ):
        if 100 * part > settings.unattributed_percent * whole:
            parts.append(f"{rounded(part, 2)} {unit} ({share(part, whole)})")
    if not parts or not standing.has_rules:
        return
    whose = [plural(spend.unattributed_keys, "key")] if spend.unattributed_keys else []
    if spend.keyless_30d_usd:
        whose.append(f"{rounded(spend.keyless_30d_usd, 2)} USD without a key, which no rule can give to a company")
    message = f"{' and '.join(parts)} of the last 30 days belong to no company: {', and '.join(whose)}."
    todo = "orcost map todo; orcost map suggest proposes rules"
    if not spend.unattributed_keys:
        todo = "No rule can: it is of the chat room, or of keys deleted before the first sync. Give each app a key"
    yield Finding(WARNING, Code.UNATTRIBUTED, standing.account, message, todo)


def _usage(standing: Standing) -> Iterator[Finding]:
    """Why costs show as 0."""
    spend, last = standing.spend, standing.keys.last_used_at
    if not standing.as_of or not standing.keys.living:
        return
    if spend.requests_30d or spend.spend_30d_usd or spend.byok_30d_usd:
        return
    used = f"the last use was on {utc_day(last)}" if last else "none was ever used"
    message = f"Costs show $0: no usage in the last 30 days. It has {plural(standing.keys.living, 'key')}; {used}."
    todo = "Nothing, if that is so; otherwise see at openrouter.ai/activity whether this is the right account's key"
    yield Finding(NOTE, Code.NO_USAGE, standing.account, message, todo, last)


def _sync(standing: Standing) -> str:
    return sync_command(standing.account)


def sync_command(account: str) -> str:
    """The command that syncs an account, as a shell takes it."""
    return f"orcost sync --account {shlex.quote(account)}"


def map_check(settings: Settings) -> str:
    """The command that looks at the mapping."""
    return "orcost map check" if settings.mapping_table else f"orcost map check {shlex.quote(str(settings.mapping))}"
