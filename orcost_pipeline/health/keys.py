"""Findings about single API keys, from stored facts: a limit that is nearly used, a new key without an owner."""

from collections.abc import Iterator
from decimal import Decimal

from orcost_pipeline.formats import key_name, percentage, rounded, share, short_hash
from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline.health.standing import WarehouseState
from orcost_pipeline.text import short
from orcost_pipeline.warehouse.questions.key_health import LimitedKey, NewKey

# What `limit_reset` says, for a sentence.
_PERIODS = {"daily": " a day", "weekly": " a week", "monthly": " a month"}


def key_use_findings(stored: WarehouseState) -> Iterator[Finding]:
    """The keys of watched accounts that are near their limit, then new ones with spend that no rule attributes."""
    watched = {it.account for it in stored.standings if it.is_watched}
    yield from (_limit_finding(it) for it in stored.limited_keys if it.account in watched)
    yield from (_unassigned_finding(it) for it in stored.new_keys if it.account in watched)


def _limit_finding(key: LimitedKey) -> Finding:
    every = _PERIODS.get((key.limit_reset or "").lower(), f" {key.limit_reset}" if key.limit_reset else "")
    limit = f"its limit of {percentage(key.limit_usd)} USD{every}"
    message = f"{_named(key)} has used {share(key.used_percent, Decimal(100))} of {limit}"
    if key.used_percent >= 100:
        message += ": OpenRouter refuses its requests, those to free models excepted"
    todo = "Raise the limit at openrouter.ai/settings/keys, or see what it is used for: orcost report --by key"
    return Finding(Severity.WARNING, Code.KEY_LIMIT_NEAR, key.account, f"{message}.", todo, subject=key.key_hash)


def _unassigned_finding(key: NewKey) -> Finding:
    spend = f"{rounded(key.credits_usd, 2)} USD"
    if key.byok_usd:
        spend += f" and {rounded(key.byok_usd, 2)} USD of BYOK"
    message = f"{_named(key)} is new and belongs to no company; it cost {spend} in the last 30 days."
    todo = f'orcost map add "COMPANY" key_hash {key.key_hash}, or a rule for its name; orcost map suggest proposes some'
    return Finding(
        Severity.WARNING, Code.KEY_UNASSIGNED, key.account, message, todo, key.first_seen_at, subject=key.key_hash
    )


def _named(key: LimitedKey | NewKey) -> str:
    return f"Key {short(key_name(key.key_name, key.key_hash))} ({short_hash(key.key_hash)})"
