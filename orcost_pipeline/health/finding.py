"""A finding: something a person should fix or know, with what to do about it.

The same findings serve `orcost status`, `orcost doctor`, alerts and Dagster's checks. This module holds the record,
its codes and their order; the modules beside it produce findings, `cli/` renders them.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from orcost_pipeline.project_file import Source
from orcost_pipeline.settings import Settings


class Severity(StrEnum):
    """ERROR: costs are not synced or cannot be trusted, or a secret is exposed. WARNING: the same in part, or soon.
    NOTE: information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Code(StrEnum):
    """The kinds of finding, the worst first; the order decides between findings of the same severity."""

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
    SCHEDULE_OFF = "schedule_off"
    MAPPING_WRONG = "mapping_wrong"
    MAPPING_GONE = "mapping_gone"
    PLANS_WRONG = "plans_wrong"
    RATES_WRONG = "rates_wrong"
    SYNC_DIED = "sync_died"
    DAYS_OPEN = "days_open"
    UNREADABLE_ROWS = "unreadable_rows"
    REQUEST_WAITS = "request_waits"
    ALERT_UNDELIVERABLE = "alert_undeliverable"
    ACCESS_TOO_WIDE = "access_too_wide"
    BUDGET_EXCEEDED = "budget_exceeded"
    BUDGET_AT_RISK = "budget_at_risk"
    BUDGET_NEAR = "budget_near"
    SPEND_SPIKE = "spend_spike"
    RATE_MISSING = "rate_missing"
    KEY_LIMIT_NEAR = "key_limit_near"
    KEY_UNASSIGNED = "key_unassigned"
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
    """Something a person should fix or know: the account (None: not of one account), what to do, and since when.

    `subject` is what it is about where an account can have several of its code: a key's hash, a company, a service.
    Code, account and subject identify a finding; another figure in its message does not make it a new one.
    """

    severity: Severity
    code: Code
    account: str | None
    message: str
    todo: str
    since: datetime | None = None
    subject: str | None = None


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """Findings by severity, then code, account and subject."""
    severities, codes = list(Severity), list(Code)
    return sorted(
        found,
        key=lambda it: (severities.index(it.severity), codes.index(it.code), it.account or "", it.subject or ""),
    )


def exit_code(found: Iterable[Finding]) -> int:
    """1 where one of the findings is an error, else 0."""
    return int(any(finding.severity is Severity.ERROR for finding in found))


def as_data(found: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as JSON objects, as `--format json` prints them."""
    return [
        {
            name: getattr(finding, name)
            for name in ("severity", "code", "account", "subject", "since", "message", "todo")
        }
        for finding in found
    ]


def sync_command(account: str) -> str:
    """The command that syncs an account, quoted for a shell."""
    return f"orcost sync --account {shlex.quote(account)}"


def map_check(settings: Settings) -> str:
    """The command that checks the project's mapping, quoted for a shell."""
    return check_command("orcost map check", settings.mapping)


def check_command(command: str, source: Source) -> str:
    """The command that checks a file, which it names, or a table, quoted for a shell."""
    return command if source.table is not None else f"{command} {shlex.quote(str(source.path))}"


def correct(settings: Settings, code: Code) -> str:
    """What to do about a file that is wrong or doubtful: the mapping, or what the code is about."""
    if code is Code.RATES_WRONG:
        return "Correct it: date,currency,per_usd, each date and currency once"
    is_plans = code is Code.PLANS_WRONG
    check = check_command("orcost plans check", settings.price_plans) if is_plans else map_check(settings)
    return f"Correct it; to check it: {check}"
