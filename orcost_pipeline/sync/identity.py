"""Whether a key belongs to the OpenRouter account that is stored under a name, judged by what OpenRouter reports to it.

What belongs here: what counts as proof and as contradiction, and the messages of a refusal. No Dagster. A hash
identifies a key, so that one key in common proves the account; without one, contradictions are looked for.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import sqlalchemy as sa

from orcost_pipeline.errors import OtherAccountError
from orcost_pipeline.openrouter.api.records import ApiKey, Credits
from orcost_pipeline.settings import Account
from orcost_pipeline.text import short
from orcost_pipeline.warehouse import accounts
from orcost_pipeline.warehouse.questions.accounts import Evidence, stored_evidence

# Restatements of credits are smaller than this.
CREDITS_TOLERANCE_USD = Decimal("0.01")


def reported_evidence(
    keys: Sequence[ApiKey],
    workspaces: Iterable[str],
    organization_id: str | None,
    bought: Credits | None,
    *,
    is_whole: bool = True,
) -> Evidence:
    """Evidence of a key's account from OpenRouter's answers; `is_whole` is False where keys may be missing in them."""
    return Evidence(
        keys=frozenset(key.hash for key in keys),
        workspaces=frozenset(workspaces) | frozenset(key.workspace_id for key in keys if key.workspace_id),
        organization_id=organization_id,
        credits_total_usd=bought.total_credits if bought else None,
        credits_used_usd=bought.total_usage if bought else None,
        is_whole=is_whole,
    )


def require_same_account(
    connection: sa.Connection, account: Account, reported: Evidence, nothing: str, *, is_managed: bool
) -> None:
    """Raises OtherAccountError where the key belongs to another account than the stored one, AccountTwiceError where
    another stored account has its keys. `nothing` says what was not done ("Nothing was published")."""
    stored = stored_evidence(connection, account.name)
    if contradicting := contradiction(stored, reported):
        raise OtherAccountError(_refusal(account, stored, reported, contradicting, nothing))
    accounts.require_only_holder(connection, account.name, reported.keys, nothing, is_managed=is_managed)


def contradiction(stored: Evidence, reported: Evidence) -> str | None:
    """Why the reported evidence cannot be of the stored account, as a clause; None where it can.

    During a rebuild, keys stored as deleted prove the account too: another account's key may have made them seem so.
    """
    if stored.is_confirmed:
        return None
    proof = stored.keys | stored.deleted if stored.is_rebuild_requested else stored.keys
    if proof & reported.keys:
        return None
    if stored.organization_id and reported.organization_id:
        if stored.organization_id == reported.organization_id:
            return None
        now, before = short(reported.organization_id), short(stored.organization_id)
        return f"it is of organization {now}, what is stored is of {before}"
    if contradicting := _credits(stored, reported):
        return contradicting
    # All keys may have been rotated at once, and a stored key may be in a workspace that this key cannot see.
    return (
        None
        if stored.workspaces & reported.workspaces or not reported.is_whole
        else _nothing_in_common(stored, reported)
    )


def _nothing_in_common(stored: Evidence, reported: Evidence) -> str | None:
    """That no stored key or workspace is listed now, where one would have to be."""
    keys, workspaces = _count(len(stored.keys), "key"), _count(len(stored.workspaces), "workspace")
    listed = f"{_count(len(reported.keys), 'key')} in {_count(len(reported.workspaces), 'workspace')}"
    if stored.workspaces and reported.workspaces:
        return f"none of its {keys} and {workspaces} is among what OpenRouter lists now ({listed})"
    if stored.keys and reported.keys:
        return f"none of its {keys} is among what OpenRouter lists now ({listed})"
    # Where nothing is listed at all, only bought credits distinguish accounts.
    before, now = stored.credits_total_usd, reported.credits_total_usd
    if stored.keys and not reported.workspaces and None not in (before, now) and before != now:
        return f"none of its {keys} is listed, and {now:,.2f} USD of credits were bought, not {before:,.2f}"
    return None


def _credits(stored: Evidence, reported: Evidence) -> str | None:
    """That lifetime credits (USD) fell, which those of one account never do, bought or used."""
    for what, before, now in (
        ("used", stored.credits_used_usd, reported.credits_used_usd),
        ("bought", stored.credits_total_usd, reported.credits_total_usd),
    ):
        if before is not None and now is not None and now < before - CREDITS_TOLERANCE_USD:
            return (
                f"none of the stored keys is listed, and total credits {what} fell from {before:,.2f} to {now:,.2f} USD"
            )
    return None


def _refusal(account: Account, stored: Evidence, reported: Evidence, contradicting: str, nothing: str) -> str:
    name = account.name
    sentence = f'The key of account "{name}" belongs to another OpenRouter account: {contradicting}. {nothing}.\n'
    if back := len(stored.deleted & reported.keys):
        return sentence + (
            f"It lists {_count(back, 'key')} that a sync with another key took for deleted. If this key is the right "
            f'one: orcost accounts rebuild "{name}"'
        )
    return sentence + (
        f'Put the key of "{name}" back ({account.api_key_env}), or give this one an account of its own: '
        f'orcost init --name NAME. If it is the same account after all: orcost accounts confirm "{name}"'
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
