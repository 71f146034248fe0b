"""Findings from stored facts: problems of each account's data, without any request to OpenRouter."""

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby

from orcost_pipeline.formats import clock, rounded, share
from orcost_pipeline.health.automation import automation_findings
from orcost_pipeline.health.billing import rate_findings
from orcost_pipeline.health.budgets import budget_findings
from orcost_pipeline.health.finding import Code, Finding, Severity, correct, sync_command
from orcost_pipeline.health.keys import key_use_findings
from orcost_pipeline.health.standing import Standing, WarehouseState
from orcost_pipeline.project_file import AlertsConfig
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import plural
from orcost_pipeline.warehouse.questions.health import UnreadableRows
from orcost_pipeline.windows import ACTIVITY_DAYS, DAY, day_start, is_future, utc_day

NAMED_DAYS = 3
NOT_ITS_KEY = (
    "Restore this account's key with orcost init, or register this key as a new account with "
    "orcost init --name NAME; then: "
)
_FIRST = {
    Code.INVALID_KEY: "Enter a valid key with orcost init, then: ",
    Code.OTHER_ACCOUNT: NOT_ITS_KEY,
    Code.CLOCK_OFF: "Set the clock by NTP (timedatectl set-ntp true), then: ",
}
# Of its two accounts, the one that cannot be synced may be the one to remove.
KEEP_ONE = (
    "Keep one of the two in orcost.toml; orcost accounts rename moves what is stored to a new name, "
    "orcost accounts forget removes it"
)
_DIED = "The process of the last sync died before it finished; published data is unchanged."
BUY_CREDITS = "Buy credits: openrouter.ai/settings/credits"


def stored_findings(
    stored: WarehouseState, settings: Settings, now: datetime, is_up: bool | None = None
) -> Iterator[Finding]:
    """The findings of the warehouse. `is_up`: whether orcost up answers on this machine; None if not checked."""
    for standing in stored.standings:
        yield from _account_findings(standing, settings, now, is_up)
    yield from key_use_findings(stored)
    yield from budget_findings(stored)
    yield from rate_findings(stored, settings)
    if stored.lacks_rules:
        yield no_mapping(settings, Severity.WARNING)
    yield from automation_findings(stored.automation)
    yield from _refused_files(stored, settings)
    yield from _failing_receivers(stored)
    if stored.waiting:
        first, others = stored.waiting[0], len(stored.waiting) - 1
        who = f"Sync request {first.id} and {others} more wait" if others else f"Sync request {first.id} waits"
        message, todo = f"{who} for the deployment. Is orcost up running?", "orcost up, where the deployment runs"
        yield Finding(Severity.WARNING, Code.REQUEST_WAITS, first.account, message, todo, first.requested_at)


def no_mapping(settings: Settings, severity: Severity) -> Finding:
    """The finding that no rule is in force, a warning once there is spend."""
    todo = "orcost map suggest proposes rules from what is synced; "
    if settings.mapping.table:
        todo += f"put those that are right into {settings.mapping.name}"
    else:
        todo += f'take one with: orcost map add COMPANY key_name "PATTERN", or write it into {settings.mapping.path}'
    return Finding(severity, Code.NO_MAPPING, None, "There are no mapping rules; all spend is Unattributed.", todo)


def _refused_files(stored: WarehouseState, settings: Settings) -> Iterator[Finding]:
    """That the last syncs went on with what is in force, because they could not use a file as it is written."""
    refused = [it.state for it in stored.standings if it.is_watched and it.state.last_run_status == "succeeded"]
    problems = [(it.last_run_at, it.last_run_error) for it in refused if it.last_run_at and it.last_run_error]
    if problems:
        at, problem = max(problems)
        for code, message in _by_code(problem, settings).items():
            todo = f"{correct(settings, code)}, then: orcost sync"
            yield Finding(Severity.ERROR, code, None, message, todo, at)


def _by_code(problem: str, settings: Settings) -> dict[Code, str]:
    """What a sync noted of files that it could not use, by the finding: its first line names the file, others are
    indented."""
    found: dict[Code, list[str]] = {}
    code = Code.MAPPING_WRONG
    for line in problem.splitlines():
        if not line.startswith((" ", "…")):
            named = line.partition(";")[0]
            sources = {Code.PLANS_WRONG: settings.price_plans, Code.RATES_WRONG: settings.exchange_rates}
            codes = (it for it, source in sources.items() if (source.table or source.path.name) in named)
            code = next(codes, Code.MAPPING_WRONG)
        found.setdefault(code, []).append(line)
    return {code: "\n".join(lines) for code, lines in found.items()}


def _failing_receivers(stored: WarehouseState) -> Iterator[Finding]:
    """Receivers of alerts that took no message in three attempts, and none since."""
    for receiver in stored.failing_receivers:
        message = f"{receiver.service} takes no alerts: {receiver.error}"
        todo = "See whether the service is up and its URL in ORCOST_ALERT_URLS is right, then: orcost alerts test"
        yield Finding(Severity.WARNING, Code.ALERT_UNDELIVERABLE, None, message, todo, receiver.since, receiver.service)


def _account_findings(standing: Standing, settings: Settings, now: datetime, is_up: bool | None) -> Iterator[Finding]:
    if not standing.is_watched:
        message = "This account is not configured here: its stored data stays and is not updated."
        todo = "Nothing, if that is intended; otherwise add it to orcost.toml under its stored name, or: "
        todo += "orcost accounts rename"
        yield Finding(Severity.NOTE, Code.NOT_CONFIGURED, standing.account, message, todo, standing.state.as_of)
        return
    yield from _freshness_findings(standing, settings, now, is_up)
    yield from _last_run(standing)
    yield from _open_days(standing)
    yield from _refused_listings(standing)
    yield from _unreadable(standing)
    yield from credit_findings(standing, settings.alerts)
    yield from _unattributed_finding(standing, settings)
    yield from _no_usage_finding(standing)


def _freshness_findings(standing: Standing, settings: Settings, now: datetime, is_up: bool | None) -> Iterator[Finding]:
    """Whether costs are being synced."""
    state, name, sync = standing.state, standing.account, _sync(standing)
    if state.as_of is not None and is_future(state.as_of, now) and state.error_code != Code.CLOCK_OFF:
        message = f"Data is marked complete until {clock(state.as_of, now)}, in the future: a sync ran with a wrong "
        message += "clock.\nUntil the next good sync, figures of the last hours and days lack what was spent in them."
        yield Finding(
            Severity.ERROR, Code.CLOCK_OFF, name, message, f"Set the clock by NTP, then: {sync}, which puts it right"
        )
    is_running = standing.running is not None and standing.running.is_alive
    if state.status not in (None, "ok"):
        yield from _sync_failure(standing)
    elif state.as_of is None:
        if not is_running and standing.is_accepted is not False:
            yield Finding(Severity.ERROR, Code.NEVER_SYNCED, name, "It was never synced.", sync)
    elif now - state.as_of > settings.alerts.stale_after:
        up_status = {
            None: "Is orcost up running?",
            True: "orcost up is running.",
            False: "orcost up is not running here.",
        }
        message = f"No data newer than {clock(state.as_of, now)}. {up_status[is_up]}"
        todo = f"orcost up (every hour), or once: {sync}" if is_up is False else sync
        yield Finding(Severity.ERROR, Code.STALE, name, message, todo, state.as_of)


def _sync_failure(standing: Standing) -> Iterator[Finding]:
    """Why the last sync failed, unless a live answer just reported the same refusal."""
    state = standing.state
    if standing.is_accepted is False and state.status in ("invalid_key", "unreachable"):
        return
    what = {"invalid_key": "OpenRouter refused its key.", "failed": "The last sync failed."}
    status = state.status or ""
    message = state.error or what.get(status, "OpenRouter or the database could not be reached.")
    code = Code.INVALID_KEY if status == "invalid_key" else Code(state.error_code or Code.SYNC_FAILED)
    if standing.is_accepted and (code is Code.CLOCK_OFF or status in ("invalid_key", "unreachable")):
        code = Code.SYNC_FAILED
        message = f"The last sync failed; OpenRouter accepts the key now. It had said:\n{message}"
    todo = KEEP_ONE if code is Code.ACCOUNT_TWICE else _FIRST.get(code, "") + _sync(standing)
    yield Finding(Severity.ERROR, code, standing.account, message, todo, state.failing_since)


def _last_run(standing: Standing) -> Iterator[Finding]:
    name, at = standing.account, standing.state.last_run_at
    if standing.running and standing.running.is_alive:
        message, todo = "It is being synced.", "Wait for it; another sync would wait too"
        yield Finding(Severity.NOTE, Code.SYNC_RUNNING, name, message, todo, standing.running.started_at)
    elif standing.running:
        message, at = _DIED, standing.running.started_at
        yield Finding(Severity.WARNING, Code.SYNC_DIED, name, message, _sync(standing), at)
    elif standing.state.last_run_status == "abandoned":
        yield Finding(Severity.WARNING, Code.SYNC_DIED, name, _DIED, _sync(standing), at)


def _open_days(standing: Standing) -> Iterator[Finding]:
    """Days that do not reconcile: recent ones can be synced again, older ones are only noted."""
    state = standing.state
    days = standing.open_days
    if not days or state.as_of is None:
        return
    first_reported = utc_day(state.as_of) - ACTIVITY_DAYS * DAY
    recent = [day for day in days if day >= first_reported]
    days_text = f"{plural(len(days), 'day')} (first {days[0]})" if len(days) > 1 else f"{days[0]}"
    lacking = {day for rows in standing.unreadable for day in rows.days}
    is_lacking = lacking.issuperset(days)
    message = (
        f"A row of {days_text} could not be read."
        if is_lacking
        else f"OpenRouter's figures by hour, by day and by key disagree about {days_text}."
    )
    severity = Severity.ERROR if recent else Severity.NOTE
    todo = (
        f"{_sync(standing)} --since {recent[0]}; if it stays, see the figures: orcost reconcile --day {recent[0]}"
        if recent
        else f"Too old to be asked again; see the figures: orcost reconcile --day {days[0]}"
    )
    yield Finding(severity, Code.DAYS_OPEN, standing.account, message, todo, day_start(days[0]))


def _refused_listings(standing: Standing) -> Iterator[Finding]:
    """What OpenRouter does not list for the account's key, although it is valid."""
    state = standing.state
    another = (
        "Costs are synced all the same. To have them listed, use a management key whose owner may see them: orcost init"
    )
    if state.workspaces_refused_since:
        message = (
            "OpenRouter does not list all workspaces, or all their keys, for this key: keys may be missing, and their "
            "spend then shows without a key.\nKnown workspaces and keys stay as last listed."
        )
        since = state.workspaces_refused_since
        yield Finding(Severity.WARNING, Code.WORKSPACES_UNKNOWN, standing.account, message, another, since)
    if state.members_refused_since:
        message = "OpenRouter does not list the members for this key: e-mails of keys' creators stay as last listed."
        yield Finding(
            Severity.WARNING,
            Code.MEMBERS_UNKNOWN,
            standing.account,
            message,
            another,
            state.members_refused_since,
        )


def _unreadable(standing: Standing) -> Iterator[Finding]:
    """Unreadable rows of OpenRouter's answers, by endpoint and field."""
    if not standing.unreadable:
        return
    by_endpoint = groupby(standing.unreadable, key=lambda it: it.endpoint)
    lines = [f"{endpoint}: {', '.join(_lacking(it) for it in fields)}" for endpoint, fields in by_endpoint]
    count = plural(sum(it.rows for it in standing.unreadable), "field")
    message = "\n".join([f"{count} of OpenRouter's responses could not be read and were left out:", *lines])
    todo = f"{_sync(standing)} asks again; if it stays, see whether there is a newer orcost_pipeline"
    since = min(it.noticed_at for it in standing.unreadable)
    yield Finding(Severity.WARNING, Code.UNREADABLE_ROWS, standing.account, message, todo, since)


def _lacking(rows: UnreadableRows) -> str:
    """A field, and the days whose figures lack it."""
    days = [f"{day}" for day in rows.days[:NAMED_DAYS]]
    if len(rows.days) > NAMED_DAYS:
        days.append(f"{len(rows.days) - NAMED_DAYS} more")
    return f"{rows.field} ({', '.join(days)})" if days else rows.field


def credit_findings(standing: Standing, alerts: AlertsConfig) -> Iterator[Finding]:
    """Credits that are used up, or last less than `credits_days` at the pace of the last 7 days.

    None for accounts that are billed by invoice.
    """
    balance, name = standing.state.balance_usd, standing.account
    if balance is None or not standing.is_prepaid:
        return
    days = standing.days_left
    if balance <= 0:
        message = f"No credits left ({rounded(balance, 2)} USD): OpenRouter refuses all but free models."
        yield Finding(Severity.ERROR, Code.NO_CREDITS, name, message, BUY_CREDITS)
    elif days is not None and days < alerts.credits_days:
        lasts = f"{plural(days, 'day')}" if days else "less than a day"
        message = f"{rounded(balance, 2)} USD of credits are left: {lasts}, at the pace of the last 7 days."
        yield Finding(Severity.WARNING, Code.CREDITS_LOW, name, message, BUY_CREDITS)


def _unattributed_finding(standing: Standing, settings: Settings) -> Iterator[Finding]:
    """A large unattributed part of the spend; without any rule, `no_mapping` says it instead."""
    spend, parts = standing.spend, []
    for part, whole, unit in (
        (spend.unattributed_30d_usd, spend.spend_30d_usd, "USD"),
        (spend.unattributed_byok_30d_usd, spend.byok_30d_usd, "USD of BYOK"),
    ):
        if 100 * part > settings.alerts.unattributed_percent * whole:
            parts.append(f"{rounded(part, 2)} {unit} ({share(part, whole)})")
    if not parts or not standing.has_rules:
        return
    whose = [plural(spend.unattributed_keys, "key")] if spend.unattributed_keys else []
    if spend.keyless_30d_usd:
        whose.append(f"{rounded(spend.keyless_30d_usd, 2)} USD without a key, which no rule can give to a company")
    message = f"{' and '.join(parts)} of the last 30 days belong to no company: {', and '.join(whose)}."
    todo = "See which keys: orcost map todo; orcost map suggest proposes rules"
    if not spend.unattributed_keys:
        todo = (
            "No rule can: the spend is from the chat room, or from keys deleted before the first sync. Give each app "
        )
        todo += "a key"
    yield Finding(Severity.WARNING, Code.UNATTRIBUTED, standing.account, message, todo)


def _no_usage_finding(standing: Standing) -> Iterator[Finding]:
    """Why costs are 0."""
    spend, last = standing.spend, standing.keys.last_used_at
    if not standing.state.as_of or not standing.keys.active:
        return
    if spend.requests_30d or spend.spend_30d_usd or spend.byok_30d_usd:
        return
    used = f"the last use was on {utc_day(last)}" if last else "none was ever used"
    message = f"Costs show $0: no usage in the last 30 days. It has {plural(standing.keys.active, 'key')}; {used}."
    todo = "Nothing, if that is right; otherwise check at openrouter.ai/activity that this is the right account's key"
    yield Finding(Severity.NOTE, Code.NO_USAGE, standing.account, message, todo, last)


def _sync(standing: Standing) -> str:
    return sync_command(standing.account)
