"""Findings from OpenRouter, live: all configured accounts at the same time, each for a few seconds at most."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import httpx
from pydantic import SecretStr

from orcost_pipeline.errors import InvalidKeyError, OrcostError, TransientError
from orcost_pipeline.health.finding import Code, Finding, Severity, sync_command
from orcost_pipeline.health.standing import Standing, WarehouseState
from orcost_pipeline.health.stored import NOT_ITS_KEY, credit_findings
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.failures import allowed
from orcost_pipeline.openrouter.api.records import ApiKey
from orcost_pipeline.openrouter.api.requests import PATIENCE_AT_A_TERMINAL, RequestOptions
from orcost_pipeline.project_file import AlertsConfig
from orcost_pipeline.settings import Account, Settings
from orcost_pipeline.sync.identity import reported_evidence
from orcost_pipeline.text import plural
from orcost_pipeline.warehouse.questions.accounts import AccountState, Evidence
from orcost_pipeline.windows import CLOCK_WRONG, CLOCKS_AGREE_WITHIN, DAY

# Seconds for each of the two rounds of questions.
ANSWER_WITHIN = 6.0
NAMED_KEYS = 3
AT_A_TERMINAL = RequestOptions(patience=PATIENCE_AT_A_TERMINAL)

NO_EVIDENCE = Evidence()

T = TypeVar("T")
Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Answer:
    """An account's live answer. Amounts are USD. `keys` are None where they were not requested or did not arrive;
    `is_spending` is whether one of them was charged within a day, `evidence` identifies the account, `ahead` is how far
    this machine's clock is ahead of the server's."""

    account: str
    is_accepted: bool
    can_manage: bool = False
    balance_usd: Decimal | None = None
    credits_total_usd: Decimal | None = None
    is_spending: bool = False
    keys: Sequence[ApiKey] | None = None
    evidence: Evidence = NO_EVIDENCE
    ahead: timedelta | None = None
    found: tuple[Finding, ...] = ()


def ask_all(
    accounts: Sequence[Account],
    clock: Clock,
    *,
    answer_within: float = ANSWER_WITHIN,
    options: RequestOptions = AT_A_TERMINAL,
) -> Mapping[str, Answer]:
    """The live answers by account, of those that have a key; a failure is a finding in the answer.

    answer_within: seconds for each of the two rounds of questions; options: of the client that asks.
    """

    async def answers() -> list[Answer]:
        with_key = ((account, account.api_key) for account in accounts if account.api_key is not None)
        return await asyncio.gather(*(ask(it, key, clock, answer_within, options) for it, key in with_key))

    # Unlike asyncio.run, closing a loop does not wait for a hanging DNS lookup.
    loop = asyncio.new_event_loop()
    try:
        return {answer.account: answer for answer in loop.run_until_complete(answers())}
    finally:
        loop.close()


async def ask(
    account: Account, secret: SecretStr, clock: Clock, answer_within: float, options: RequestOptions
) -> Answer:
    """The kind of a key; for a management key also the balance and the listed keys. Never raises OrcostError."""
    ours = RequestOptions(key_env=account.api_key_env, clock=clock)
    try:
        client = OpenRouter(account.name, secret, account.base_url, **(ours | options))
    except OrcostError as error:
        return Answer(account.name, is_accepted=False, found=(_error_finding(account, error, answer_within),))

    async def tried(question: Awaitable[T]) -> T | Finding:
        return await _tried(account, client, answer_within, question)

    async with client:
        key = await tried(client.key())
        if isinstance(key, Finding):
            return Answer(account.name, is_accepted=False, ahead=client.clock_ahead, found=(key,))
        if not key.can_manage:
            return Answer(account.name, is_accepted=True, ahead=client.clock_ahead)
        credits_answer, listed = await asyncio.gather(tried(allowed(client.credits())), tried(client.account_keys()))
    credit = None if isinstance(credits_answer, Finding) else credits_answer
    evidence = NO_EVIDENCE
    if not isinstance(listed, Finding):
        workspaces = [workspace.id for workspace in listed.workspaces.rows]
        evidence = reported_evidence(listed.keys, workspaces, key.organization_id, credit, is_whole=listed.is_whole)
    keys = None if isinstance(listed, Finding) else listed.keys
    return Answer(
        account.name,
        is_accepted=True,
        can_manage=True,
        balance_usd=credit.balance_usd if credit else None,
        credits_total_usd=credit.total_credits if credit else None,
        is_spending=any(_is_spending(it, clock()) for it in keys or ()),
        keys=keys,
        evidence=evidence,
        ahead=client.clock_ahead,
        found=tuple(answer for answer in (credits_answer, listed) if isinstance(answer, Finding)),
    )


def _is_spending(key: ApiKey, now: datetime) -> bool:
    """Whether a key was charged today, or used within a day in a week in which it was charged."""
    was_used = key.last_used_at is not None and now - key.last_used_at < DAY
    return bool(key.usage_daily or (was_used and key.usage_weekly))


async def _tried(account: Account, client: OpenRouter, answer_within: float, question: Awaitable[T]) -> T | Finding:
    """The answer, or a finding that says why there is none after `answer_within` seconds."""
    try:
        async with asyncio.timeout(answer_within):
            return await question
    except (OrcostError, TimeoutError) as error:
        return _error_finding(account, error, answer_within, client.last_error_status)


def _error_finding(
    account: Account, error: Exception, answer_within: float, last_error_status: int | None = None
) -> Finding:
    """A finding for a failed request: the last line of a longer message is the advice.

    Of the base URL, which may contain a secret, only the host is shown.
    """
    message, _, advice = str(error).rpartition("\n")
    if isinstance(error, TransientError | TimeoutError):
        host = httpx.URL(account.base_url).netloc.decode()
        last = f"; its last answer was {last_error_status}" if last_error_status else ""
        message = message or advice or f"{host} did not answer in {answer_within:g} seconds{last}."
        todo = f"See status.openrouter.ai, and whether this machine reaches {host} (network, proxy)"
        return Finding(Severity.ERROR, Code.OPENROUTER_UNREACHABLE, account.name, message, todo)
    code = Code.INVALID_KEY if isinstance(error, InvalidKeyError) else Code.OPENROUTER_REFUSES
    if not message:
        message, advice = advice, "Check OPENROUTER_BASE_URL, and see whether there is a newer orcost_pipeline"
    return Finding(Severity.ERROR, code, account.name, message, advice)


def with_answers(stored: WarehouseState, settings: Settings, answers: Mapping[str, Answer]) -> WarehouseState:
    """The stored state, updated by live answers: whether each key is accepted, and the balance."""
    keyless = {account.name for account in settings.accounts if account.api_key is None}
    standings = []
    for standing in stored.standings:
        answer = answers.get(standing.account)
        is_accepted = answer.is_accepted if answer else (False if standing.account in keyless else None)
        standings.append(_with_credits(replace(standing, is_accepted=is_accepted), answer))
    return replace(stored, standings=standings)


def _with_credits(standing: Standing, answer: Answer | None) -> Standing:
    """The standing with the credits of an answer, where it has a balance."""
    if answer is None or answer.balance_usd is None:
        return standing
    state = standing.state._replace(balance_usd=answer.balance_usd, credits_total_usd=answer.credits_total_usd)
    return replace(standing, state=state, is_spending=answer.is_spending)


def openrouter_findings(
    answer: Answer, standing: Standing | None, alerts: AlertsConfig, contradicting: str | None = None
) -> Iterator[Finding]:
    """Findings from an account's live answer. `standing` is None where the warehouse has none or cannot be read;
    `contradicting` says why the key cannot belong to the stored account."""
    is_known = standing is not None and standing.state.status in ("invalid_key", "unreachable")
    since = standing.state.failing_since if standing and is_known else None
    yield from (replace(it, since=since) for it in answer.found)
    if answer.is_accepted and not answer.can_manage:
        yield _ordinary_key_finding(answer.account, standing)
    if standing is None:
        yield from credit_findings(_with_credits(Standing(AccountState.never_synced(answer.account)), answer), alerts)
    if contradicting:
        yield from _other_account_finding(answer.account, standing, contradicting)
    elif answer.keys is not None:
        yield from _listing_findings(answer.account, answer.keys, standing)


def _other_account_finding(account: str, standing: Standing | None, contradicting: str) -> Iterator[Finding]:
    """That the key belongs to another account, unless the last sync has already reported it."""
    if standing is None or standing.state.error_code != Code.OTHER_ACCOUNT:
        message = f"The key belongs to a different OpenRouter account than the stored data: {contradicting}."
        todo = f"{NOT_ITS_KEY}{sync_command(account)}"
        yield Finding(Severity.ERROR, Code.OTHER_ACCOUNT, account, message, todo)


def _ordinary_key_finding(account: str, standing: Standing | None) -> Finding:
    message = (
        "This account uses an ordinary key. Only that key's total cost per calendar day, week and month is available;\n"
        "other keys, models, tokens and history are not."
    )
    severity = Severity.NOTE
    if standing and standing.state.kind == "management":
        severity = Severity.ERROR
        message += "\nA management key has synced this account so far; all its other keys would appear to cost nothing."
    todo = "Make a management key (openrouter.ai/settings/management-keys), then: orcost init"
    return Finding(severity, Code.ORDINARY_KEY, account, message, todo)


def _listing_findings(account: str, keys: Sequence[ApiKey], standing: Standing | None) -> Iterator[Finding]:
    """Keys missing from the tables, or no keys at OpenRouter at all."""
    if not keys:
        message = "OpenRouter lists no API key: there is nothing to attribute."
        todo = "If it has keys: this management key belongs to another account or organization. Make one there"
        yield Finding(Severity.WARNING, Code.NO_API_KEYS, account, message, todo)
    if standing is None or standing.state.as_of is None:
        return
    missing = [key for key in keys if key.hash not in standing.keys.hashes]
    if not missing:
        return
    first_at = min((key.created_at for key in missing if key.created_at), default=None)
    is_overdue = first_at is not None and first_at < standing.state.as_of
    named = ", ".join(f'"{key.name or key.label}"' for key in missing[:NAMED_KEYS])
    more = f" and {len(missing) - NAMED_KEYS} more" if len(missing) > NAMED_KEYS else ""
    message = f"{plural(len(missing), 'key')} at OpenRouter not in the tables yet: {named}{more}."
    message += " The last sync should have seen that." if is_overdue else " New keys come with the next sync."
    severity = Severity.WARNING if is_overdue else Severity.NOTE
    todo = f"orcost resync (where orcost up runs), or: {sync_command(account)}"
    yield Finding(severity, Code.KEYS_MISSING, account, message, todo, first_at)


def clock_findings(answers: Iterable[Answer]) -> Iterator[Finding]:
    """A difference between this machine's clock and the server's, on which the last hour of a sync depends."""
    ahead = max((answer.ahead for answer in answers if answer.ahead), key=abs, default=timedelta(0))
    if abs(ahead) > CLOCKS_AGREE_WITHIN:
        severity = Severity.ERROR if abs(ahead) > CLOCK_WRONG else Severity.WARNING
        offset = (
            f"{plural(round(abs(ahead).total_seconds()), 'second')} {'ahead' if ahead > timedelta(0) else 'behind'}"
        )
        message, todo = f"This machine's clock is {offset}.", "Set the clock by NTP, such as: timedatectl set-ntp true"
        yield Finding(severity, Code.CLOCK_OFF, None, message, todo)
